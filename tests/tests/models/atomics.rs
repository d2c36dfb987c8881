//! Loom's atomics, before each step of which a process may be killed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) use loom::sync::atomic::Ordering;
use loom::sync::atomic::fence as loom_fence;

/// What is wrong with all atomics, in a control: a model that does not fail then shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// No step makes another's writes visible.
    Relaxed,
    /// Who reads and then writes does not see what others have written in between.
    Torn,
    /// There are no fences.
    NoFence,
}

thread_local! {
    /// One for each test: loom runs all threads of a model on one.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

loom::thread_local! {
    /// How many steps this thread of the model has left, if it is to die.
    static LEFT: Cell<Option<usize>> = Cell::new(None);
}

/// What a killed thread unwinds with.
struct Killed;

pub(crate) fn set_fault(fault: Fault) {
    FAULT.set(fault);
}

/// Runs a part of the model, and kills it before it takes more than so many steps. Gives whether it was killed.
pub(crate) fn was_killed(steps: Option<usize>, part: impl FnOnce()) -> bool {
    LEFT.with(|left| left.set(steps));
    let done = catch_unwind(AssertUnwindSafe(part));
    LEFT.with(|left| left.set(None));
    match done {
        Ok(()) => false,
        Err(payload) if payload.is::<Killed>() => true,
        Err(payload) => resume_unwind(payload),
    }
}

/// Something that other processes can see: the last thing that this one does, if it is to die here.
pub(crate) fn step() {
    let is_over = LEFT.with(|left| {
        let before = left.get();
        left.set(before.map(|steps| steps.saturating_sub(1)));
        before == Some(0)
    });
    if is_over {
        let killed: Box<dyn Any + Send> = Box::new(Killed);
        resume_unwind(killed);
    }
}

/// What stands between two steps is none: others cannot see it.
pub(crate) fn fence(ordering: Ordering) {
    if FAULT.get() != Fault::NoFence {
        loom_fence(ordering);
    }
}

/// What the words are made of.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

fn order(order: Ordering) -> Ordering {
    if FAULT.get() == Fault::Relaxed { Ordering::Relaxed } else { order }
}

impl AtomicU64 {
    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        step();
        self.0.load(order(ordering))
    }

    pub(crate) fn store(&self, value: u64, ordering: Ordering) {
        step();
        self.0.store(value, order(ordering));
    }

    pub(crate) fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64 {
        step();
        if FAULT.get() == Fault::Torn {
            return self.torn(ordering, |value| value | bits);
        }
        self.0.fetch_or(bits, order(ordering))
    }

    pub(crate) fn fetch_add(&self, number: u64, ordering: Ordering) -> u64 {
        step();
        self.0.fetch_add(number, order(ordering))
    }

    fn torn(&self, ordering: Ordering, update: impl Fn(u64) -> u64) -> u64 {
        let before = self.0.load(Ordering::Acquire);
        self.0.store(update(before), store_order(ordering));
        before
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        step();
        if FAULT.get() == Fault::Torn {
            let before = self.0.load(Ordering::Acquire);
            if before == current {
                self.0.store(new, store_order(success));
            }
            return if before == current { Ok(before) } else { Err(before) };
        }
        self.0.compare_exchange(current, new, order(success), order(failure))
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

/// That of a store, where the step that it is half of has another.
fn store_order(ordering: Ordering) -> Ordering {
    match ordering {
        Ordering::Acquire | Ordering::Relaxed => Ordering::Relaxed,
        _ => Ordering::Release,
    }
}
