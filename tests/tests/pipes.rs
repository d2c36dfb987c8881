//! Pipes between processes.

use std::io::{Read, Seek, Write};

use procession::pipe::{Receiver, Sender};
use procession::{Failure, Passed, Pipe, pipe, process, simplex};

#[process]
async fn doubles(mut pipe: Pipe<u64, u64>) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(n) = pipe.recv().await? {
        pipe.send(2 * n).await?;
        count += 1;
    }
    Ok(count)
}

#[process]
fn doubles_plainly(mut pipe: Pipe<u64, u64>) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(n) = pipe.blocking_recv()? {
        pipe.blocking_send(2 * n)?;
        count += 1;
    }
    Ok(count)
}

#[process]
async fn opens() -> Result<(Passed<std::fs::File>, Receiver<String>), Failure> {
    let mut file = tempfile::tempfile()?;
    file.write_all(b"from the child")?;
    let (mut sender, receiver) = simplex()?;
    sender.send("left behind".to_owned()).await?;
    Ok((Passed::new(file)?, receiver))
}

procession_tests::isolated! {
    /// A pipe end is an argument; its other end sees that the child is done with it.
    async fn co01_a_pipe_to_a_child() {
        let (mut ours, theirs) = pipe::<u64, u64>().unwrap();
        let mut child = doubles(theirs).spawn().await.unwrap();
        for n in 0..100 {
            ours.send(n).await.unwrap();
            assert_eq!(ours.recv().await.unwrap(), Some(2 * n));
        }
        drop(ours);
        assert_eq!(child.join().await.unwrap().unwrap(), 100);
    }

    async fn a_pipe_to_a_plain_child() {
        let (mut ours, theirs) = pipe::<u64, u64>().unwrap();
        let mut child = doubles_plainly(theirs).spawn().await.unwrap();
        for n in 0..100 {
            ours.send(n).await.unwrap();
            assert_eq!(ours.recv().await.unwrap(), Some(2 * n));
        }
        drop(ours);
        assert_eq!(child.join().await.unwrap().unwrap(), 100);
    }

    async fn handles_in_a_result() {
        let (file, mut receiver) = opens().await.unwrap().unwrap();
        let mut file = file.into_inner().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the child");
        assert_eq!(receiver.recv().await.unwrap().as_deref(), Some("left behind"));
        assert_eq!(receiver.recv().await.unwrap(), None);
    }

    async fn ends_within_messages() {
        let (mut carrier, mut carried) = simplex::<(Vec<Sender<u64>>, Receiver<u64>)>().unwrap();
        let (mut first, rest) = simplex::<u64>().unwrap();
        first.send(1).await.unwrap();
        let (tx, mut rx) = simplex::<u64>().unwrap();
        carrier.send((vec![tx], rest)).await.unwrap();
        let (mut senders, mut receiver) = carried.recv().await.unwrap().unwrap();
        assert_eq!(receiver.recv().await.unwrap(), Some(1));
        senders[0].send(7).await.unwrap();
        assert_eq!(rx.recv().await.unwrap(), Some(7));
        drop(senders);
        assert_eq!(rx.recv().await.unwrap(), None);
    }
}
