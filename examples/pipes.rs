//! What a pipe promises: what comes back, what is not lost, what is refused, and by whom.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use procession::pipe::{RecvError, SendError, Sender, TryRecvError, TrySendError, simplex_with};
use procession::{Failure, Limits, process, simplex};
use serde::{Deserialize, Serialize};

type Done = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    comes_back().await?;
    is_too_large().await?;
    is_full()?;
    is_not_lost().await?;
    is_flushed().await?;
    is_large().await?;
    is_raw().await?;
    is_hostile().await
}

// ANCHOR: comes_back
async fn comes_back() -> Done {
    let (mut sender, receiver) = simplex::<String>()?;
    drop(receiver);
    match sender.send("a letter".into()).await {
        Err(SendError::Closed(letter)) => println!("nobody to read {letter:?}"),
        sent => sent?,
    }
    Ok(())
}
// ANCHOR_END: comes_back

// ANCHOR: limits
async fn is_too_large() -> Done {
    let (mut sender, mut receiver) = simplex_with::<String>(Limits::DEFAULT.max_message(1000))?;
    let book = "x".repeat(2000);
    if let Err(SendError::Encode(book, why)) = sender.send(book).await {
        println!("a book of {}: {why}", book.len());
    }
    // Nothing of it was sent.
    sender.send("a letter".into()).await?;
    println!("{:?}", receiver.recv().await?);
    Ok(())
}
// ANCHOR_END: limits

// ANCHOR: full
fn is_full() -> Done {
    let (mut sender, mut receiver) = simplex::<Vec<u8>>()?;
    let refused = loop {
        match sender.try_send(vec![7; 1000]) {
            Ok(()) => {}
            Err(TrySendError::Full(message)) => break message,
            Err(other) => return Err(other.into()),
        }
    };
    println!("no room for {} more bytes", refused.len());
    // The receiver makes room, one message after the other.
    while receiver.try_recv().is_ok() {}
    sender.try_send(refused)?;
    Ok(())
}
// ANCHOR_END: full

// ANCHOR: cancel
#[process]
async fn sends_slowly(mut sender: Sender<Vec<u8>>) -> Result<(), Failure> {
    for size in [10, 8 << 20, 10] {
        sender.send(vec![0; size]).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn is_not_lost() -> Done {
    let (sender, mut receiver) = simplex()?;
    let sending = sends_slowly(sender);
    let receiving = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut sizes = Vec::new();
        loop {
            tokio::select! {
                message = receiver.recv() => match message? {
                    Some(message) => sizes.push(message.len()),
                    None => return Ok(sizes),
                },
                // Drops `recv`, in the middle of a message or not.
                _ = ticks.tick() => {}
            }
        }
    };
    let (sizes, sent): (Result<_, RecvError>, _) = tokio::join!(receiving, sending);
    sent??;
    println!("received {:?}", sizes?);
    Ok(())
}
// ANCHOR_END: cancel

// ANCHOR: flush
#[process]
async fn ends_at_once(mut sender: Sender<u32>) -> Result<(), Failure> {
    for n in 0..1000 {
        sender.send(n).await?;
    }
    // Without this, the last of them may not have left.
    sender.flush().await?;
    std::process::abort();
}

async fn is_flushed() -> Done {
    let (sender, mut receiver) = simplex()?;
    let mut child = ends_at_once(sender).spawn().await?;
    let mut count = 0;
    while receiver.recv().await?.is_some() {
        count += 1;
    }
    if let Err(error) = child.join().await {
        println!("{count} have come; the sender {}", error.cause());
    }
    Ok(())
}
// ANCHOR_END: flush

// ANCHOR: large
#[derive(Serialize, Deserialize)]
struct Image {
    name: String,
    /// `serde_bytes::ByteBuf`, or a `Vec<u8>` with `#[serde(with = "serde_bytes")]`, is as good.
    pixels: Bytes,
}

#[process]
async fn paints(mut images: Sender<Image>) -> Result<(), Failure> {
    images.send(Image { name: "night".into(), pixels: vec![0; 8 << 20].into() }).await?;
    Ok(())
}

async fn is_large() -> Done {
    let (sender, mut receiver) = simplex()?;
    let painting = tokio::spawn(paints(sender));
    while let Some(Image { name, pixels }) = receiver.recv().await? {
        println!("{name}: {} MiB", pixels.len() >> 20);
    }
    painting.await???;
    Ok(())
}
// ANCHOR_END: large

// ANCHOR: raw
async fn is_raw() -> Done {
    let (mut sender, mut receiver) = simplex::<u32>()?;
    sender.send_bytes(b"as they are").await?;
    sender.send(7).await?;
    drop(sender);

    // What is no message stays until somebody takes it as what it is.
    if let Err(RecvError::NotAMessage) = receiver.recv().await {
        println!("bytes: {:?}", receiver.recv_bytes().await?);
    }
    println!("message: {:?}", receiver.recv().await?);
    println!("end: {:?}, {:?}", receiver.recv().await?, receiver.recv_bytes().await?);
    Ok(())
}
// ANCHOR_END: raw

// ANCHOR: hostile
/// Not what a program of ours does: a function that an attacker has taken over.
#[process]
async fn is_taken_over(mut sender: Sender<String>) -> Result<(), Failure> {
    sender.send("an honest message".into()).await?;
    sender.flush().await?;
    rustix::io::write(sender.as_fd(), &[0xff; 64])?;
    Ok(())
}

async fn is_hostile() -> Done {
    let (sender, mut receiver) = simplex()?;
    is_taken_over(sender).await??;
    println!("{:?}", receiver.recv().await?);
    match receiver.recv().await {
        Err(error) if error.ends_the_pipe() => println!("{error}"),
        other => println!("{other:?}"),
    }
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Closed)));
    Ok(())
}
// ANCHOR_END: hostile
