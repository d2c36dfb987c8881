//! quick
use procession::mailbox::{Builder, Receiver, Sender};
use procession::{Failure, process};
use procession_bench::stay_on;
use serde_bytes::ByteArray;
use std::time::Instant;

#[process]
async fn drain64(inbox: Receiver<ByteArray<64>>, done: Sender<u64>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let mut n = 0;
    while let Some(m) = inbox.recv().await {
        n += 1;
        if m[0] == 1 {
            done.send(n).await?;
            n = 0;
        }
    }
    Ok(())
}
#[process]
async fn drain_many(inbox: Receiver<ByteArray<64>>, done: Sender<u64>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let mut n = 0;
    let mut v = Vec::new();
    while inbox.recv_many(&mut v, 256).await > 0 {
        for m in v.drain(..) {
            n += 1;
            if m[0] == 1 {
                done.send(n).await?;
                n = 0;
            }
        }
    }
    Ok(())
}
#[process]
async fn echo(inbox: Receiver<u64>, out: Sender<u64>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(m) = inbox.recv().await {
        out.send(m).await?;
    }
    Ok(())
}
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    stay_on(0)?;
    for many in [false, true] {
        let (tx, rx) = Builder::new(1024).build::<ByteArray<64>>()?;
        let (dtx, drx) = Builder::new(4).build::<u64>()?;
        let p =
            if many { drain_many(rx, dtx, 1).spawn().await? } else { drain64(rx, dtx, 1).spawn().await? };
        let mut best = 0.0_f64;
        let mut all = vec![];
        for _ in 0..20 {
            let n = 300_000;
            let t = Instant::now();
            let m = ByteArray::new([0; 64]);
            for _ in 1..n {
                tx.send(m).await.map_err(|e| e.to_string())?;
            }
            let mut a = [0; 64];
            a[0] = 1;
            tx.send(ByteArray::new(a)).await.map_err(|e| e.to_string())?;
            assert_eq!(drx.recv().await, Some(n));
            let r = n as f64 / t.elapsed().as_secs_f64() / 1e6;
            best = best.max(r);
            all.push(r);
        }
        all.sort_by(f64::total_cmp);
        println!("many {many}: median {:.2} best {best:.2} M/s", all[10]);
        drop(tx);
        let _ = p.await?;
    }
    for core in [0, 1] {
        let (tx, rx) = Builder::new(4).build::<u64>()?;
        let (btx, brx) = Builder::new(4).build::<u64>()?;
        let p = echo(rx, btx, core).spawn().await?;
        let mut all = vec![];
        for _ in 0..20 {
            let n = 3000;
            let t = Instant::now();
            for i in 0..n {
                tx.send(i).await?;
                assert_eq!(brx.recv().await, Some(i));
            }
            all.push(t.elapsed().as_secs_f64() * 1e6 / n as f64);
        }
        all.sort_by(f64::total_cmp);
        println!("rtt core {core}: median {:.2} best {:.2} us", all[10], all[0]);
        drop(tx);
        let _ = p.await?;
    }
    Ok(())
}
