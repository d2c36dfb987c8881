//! Locks in shared memory.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use procession::shared::{Mutex, Region};
use procession::{Failure, ProcessSet, process};
use procession_tests::isolated;

#[process]
async fn adds(total: Mutex<u64>, times: u32) -> Result<(), Failure> {
    for _ in 0..times {
        *total.lock().await? += 1;
    }
    Ok(())
}

#[process]
async fn keeps(total: Mutex<u64>) -> Result<(), Failure> {
    let mut guard = total.lock().await?;
    *guard += 100;
    std::future::pending::<()>().await;
    Ok(())
}

isolated! {
    /// Increments of several processes: none is lost.
    async fn sy01_increments() {
        let total = Mutex::new(0_u64).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..4 {
            set.spawn(adds(total.clone(), 20_000)).await.unwrap();
        }
        while let Some(ended) = set.join_next().await {
            ended.unwrap().unwrap();
        }
        assert_eq!(*total.lock().await.unwrap(), 80_000);
    }

    /// The owner is killed: the next one gets the last committed value.
    async fn f05_owner_killed() {
        let total = Mutex::new(5_u64).unwrap();
        let mut child = keeps(total.clone()).spawn().await.unwrap();
        while total.owner() != Some(child.pid()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = total.lock();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        child.signaler().kill().unwrap();
        let died = waiting.await.unwrap_err();
        assert_eq!(**died.guard(), 5);
        drop(died);
        drop(total.lock().await.unwrap_err().recover());
        assert_eq!(*total.lock().await.unwrap(), 5);
        child.wait().await.unwrap();
    }

    /// 500 locks in one message.
    async fn many_in_one_region() {
        let region = Region::with_capacity(500 * Mutex::<u64>::size_in_region()).unwrap();
        let locks: Vec<_> = (0..500).map(|n| Mutex::new_in(&region, n).unwrap()).collect();
        drop(region);
        let mut set = ProcessSet::new();
        for _ in 0..2 {
            set.spawn(adds_to_all(locks.clone())).await.unwrap();
        }
        while let Some(ended) = set.join_next().await {
            ended.unwrap().unwrap();
        }
        for (n, lock) in locks.iter().enumerate() {
            assert_eq!(*lock.lock().await.unwrap(), n as u64 + 2);
        }
    }
}

#[process]
async fn adds_to_all(locks: Vec<Mutex<u64>>) -> Result<(), Failure> {
    for lock in &locks {
        *lock.lock().await? += 1;
    }
    Ok(())
}
