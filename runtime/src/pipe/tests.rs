//! Pipes within one process.

use super::*;

#[tokio::test]
async fn messages_in_order() {
    let (mut ours, mut theirs) = pipe::<u64, String>().unwrap();
    for n in 0..1000 {
        ours.send(n).await.unwrap();
    }
    for n in 0..1000 {
        assert_eq!(theirs.recv().await.unwrap(), Some(n));
    }
    theirs.send("x".repeat(100_000)).await.unwrap();
    theirs.send("y".repeat(1 << 20)).await.unwrap();
    assert_eq!(ours.recv().await.unwrap().unwrap().len(), 100_000);
    assert_eq!(ours.recv().await.unwrap().unwrap().len(), 1 << 20);
    drop(theirs);
    assert_eq!(ours.recv().await.unwrap(), None);
    assert!(ours.send(1).await.unwrap_err().is_closed());
}
