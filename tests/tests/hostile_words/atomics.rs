//! Atomics of which a hostile process has the last word: whenever one is looked at, it may have become another. That is as if it
//! had written over all of them before each step.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::SeqCst;

pub(crate) use std::sync::atomic::{Ordering, fence};

/// What a word becomes before somebody sees it.
pub(crate) type Peer = Box<dyn FnMut(u64) -> u64>;

thread_local! {
    static PEER: RefCell<Option<Peer>> = const { RefCell::new(None) };
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Runs something beside a hostile process; gives how many steps it took.
pub(crate) fn steps_beside(peer: Peer, what: impl FnOnce()) -> u64 {
    STEPS.set(0);
    PEER.set(Some(peer));
    what();
    PEER.set(None);
    STEPS.get()
}

/// More steps than anything of ours may ever take: the test is to end.
const ENDLESS: u64 = 1 << 26;

#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicU64(std::sync::atomic::AtomicU64);

impl AtomicU64 {
    fn step(&self) -> &std::sync::atomic::AtomicU64 {
        STEPS.set(STEPS.get() + 1);
        assert!(STEPS.get() < ENDLESS, "this has no end");
        PEER.with_borrow_mut(|peer| {
            if let Some(peer) = peer {
                self.0.store(peer(self.0.load(SeqCst)), SeqCst);
            }
        });
        &self.0
    }

    pub(crate) fn load(&self, _: Ordering) -> u64 {
        self.step().load(SeqCst)
    }

    pub(crate) fn store(&self, value: u64, _: Ordering) {
        self.step().store(value, SeqCst);
    }

    pub(crate) fn fetch_or(&self, bits: u64, _: Ordering) -> u64 {
        self.step().fetch_or(bits, SeqCst)
    }

    pub(crate) fn fetch_add(&self, number: u64, _: Ordering) -> u64 {
        self.step().fetch_add(number, SeqCst)
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        _: Ordering,
        _: Ordering,
    ) -> Result<u64, u64> {
        self.step().compare_exchange(current, new, SeqCst, SeqCst)
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, failure)
    }
}
