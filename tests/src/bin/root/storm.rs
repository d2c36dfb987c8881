//! A program that starts processes without end.

use std::collections::VecDeque;

use futures::future::join_all;
use procession::process;

use crate::random::Random;
use crate::tree::call;

#[process]
async fn ends_at_once() {}

/// Starts processes without end, so that there is always one that is just being started, or just ending.
pub(crate) async fn storm(seed: u64) {
    join_all((0..3).map(|number| gusts(Random(seed.wrapping_add(number))))).await;
}

async fn gusts(mut random: Random) {
    let mut living = VecDeque::new();
    loop {
        match random.below(8) {
            0..3 => ends_at_once().await.unwrap(),
            3 => living.push_back(call("deep").kill_on_drop(true).spawn().await.unwrap()),
            4 => living.push_back(call("program").kill_on_drop(true).spawn().await.unwrap()),
            5 => living.push_back(call("stopped").kill_on_drop(true).spawn().await.unwrap()),
            _ => living.push_back(call("idle").kill_on_drop(true).spawn().await.unwrap()),
        }
        if living.len() > 4 {
            drop(living.pop_front());
        }
    }
}
