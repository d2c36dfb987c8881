//! A pool that has nothing to do does nothing.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::time::Duration;

use procession::{Pool, process};
use procession_tests::isolated;
use tokio::time::sleep;

#[process]
async fn same(n: u64) -> u64 {
    n
}

/// How often a process has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

isolated! {
    async fn who_has_nothing_to_do_is_not_woken() {
        let pool = Pool::new(2).await.unwrap();
        assert_eq!(pool.run(same(7)).await.unwrap(), 7);
        assert_eq!(pool.map(same, 0..1000).await.unwrap().len(), 1000);
        let workers: Vec<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
        let all = || workers.iter().map(|pid| sleeps(*pid)).sum::<u64>();
        let mut most = Vec::new();
        for _ in 0..20 {
            let before = all();
            // Not for anything to happen: in this time nothing is to.
            sleep(Duration::from_millis(100)).await;
            most.push(all() - before);
            if most.ends_with(&[0]) {
                break;
            }
        }
        assert!(most.ends_with(&[0]), "in each tenth of a second they slept so often: {most:?}");
        pool.close().await.unwrap();
    }
}
