//! A value that is under a lock.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

use super::Plain;
use super::cells::Cells;
use super::layout::Kind;
use super::region::{Object, Region};
use super::words::{Attempt, Lock, Member, Owned, Release};
use crate::sys::{Forks, Place, Places};

/// A lock at the beginning of an object, and the two buffers of the value that it protects. One has the value at a time, and commits it
/// as it unlocks; how they wait for it is the business of whose this is.
pub(super) struct Guarded<T> {
    pub(super) object: Object,
    pub(super) lock: Place<Lock>,
    buffers: Places<AtomicU64>,
    forks: Forks,
    is: PhantomData<fn(T) -> T>,
}

/// How it was locked.
#[derive(Clone, Copy)]
pub(super) struct Grip {
    owned: Owned,
    token: u64,
    forks: u64,
    pub(super) owner_died: bool,
}

/// What who has the lock has of it.
#[derive(Clone, Copy)]
pub(super) struct Held<T> {
    pub(super) value: T,
    pub(super) token: u64,
    pub(super) release: Release,
    pub(super) owned: Owned,
    pub(super) forks: u64,
    /// Whether a panic was on its way already, which is none of this one's.
    panicking: bool,
}

impl<T: Plain> Guarded<T> {
    /// How far the second buffer stands behind the first.
    const BUFFER: usize = T::SIZE.next_multiple_of(8);

    /// How many bytes it takes, whose buffers begin at a place.
    pub(super) const fn size(buffers: usize) -> usize {
        buffers + 2 * Self::BUFFER
    }

    /// Makes one in a region, whose buffers begin at a place.
    ///
    /// # Errors
    /// If the region has no room left.
    pub(super) fn new(region: &Region, kind: Kind, buffers: usize, value: T) -> io::Result<Self> {
        let new = Self::of(Object::new(region, kind, Self::size(buffers))?, buffers)?;
        value.store(new.cells(0));
        Ok(new)
    }

    /// What an object is, whose buffers begin at a place.
    ///
    /// # Errors
    /// If it is not within its region.
    pub(super) fn of(object: Object, buffers: usize) -> io::Result<Self> {
        let (lock, words) = (object.words(0)?, 2 * Self::BUFFER / size_of::<AtomicU64>());
        let (buffers, forks) = (object.all_words(buffers, words)?, Forks::get());
        Ok(Self { lock, buffers, forks, object, is: PhantomData })
    }

    /// The value in a buffer.
    pub(super) fn load(&self, buffer: usize) -> T {
        T::load(self.cells(buffer))
    }

    #[inline]
    fn cells(&self, buffer: usize) -> Cells<'_> {
        Cells::within(&self.buffers, buffer * Self::BUFFER)
    }

    /// Locks it if it is free, nobody of this process waits in line, and nothing is to be said of a death. These are a few instructions, which
    /// are to stand where they are used: else what it gives would go through memory, for longer than all the rest takes.
    #[inline(always)]
    pub(super) fn grip_free(&self) -> Option<Grip> {
        // All that can be known before is: nothing is read ahead of the step that locks.
        let (forks, attachment) = (self.forks.number(), &self.object.attachment);
        let me = attachment.known(forks)?;
        if attachment.waiters.is_anybody_in_line() {
            return None;
        }
        let (owned, token) = self.lock.try_acquire_free(me)?;
        Some(Grip { owned, token, forks, owner_died: false })
    }

    /// Locks it if no live process has it. If one has it, gives which.
    pub(super) fn grip(&self) -> Result<Grip, Option<Member>> {
        let (forks, attachment) = (self.forks.number(), &self.object.attachment);
        let me = attachment.me().ok_or(None)?;
        match self.lock.try_acquire(me, attachment.members()) {
            Attempt::Held(owner) => Err(owner),
            Attempt::Acquired { owned, token, owner_died } => Ok(Grip { owned, token, forks, owner_died }),
        }
    }

    /// The same, if nobody need watch for the owner: it looks whether that lives.
    pub(super) fn grip_now(&self) -> Result<Grip, Option<Member>> {
        self.grip().or_else(|owner| {
            owner.into_iter().for_each(|owner| self.object.attachment.check(owner));
            self.grip()
        })
    }

    /// Reads the value, for who has locked it.
    #[inline(always)]
    pub(super) fn hold(&self, Grip { owned, token, forks, .. }: Grip) -> Held<T> {
        let (value, panicking) = (T::load(self.cells(owned.buffer())), std::thread::panicking());
        Held { value, token, release: Release::default(), owned, forks, panicking }
    }

    /// Has the owner wake who is about to sleep. Gives `false` if there is none to wait for.
    pub(super) fn is_to_sleep(&self) -> bool {
        self.lock.sleep(self.object.attachment.members())
    }

    /// Commits the value, if it is to be, and unlocks, if nobody sleeps until then and no owner has died. If it gives `false`,
    /// [`unlock`](Self::unlock) is to do so.
    #[inline(always)]
    pub(super) fn release(&self, held: &mut Held<T>) -> bool {
        if !self.forks.is_still(held.forks) {
            return false;
        }
        // What a panic leaves half done is not committed.
        held.release.commit &= held.panicking || !std::thread::panicking();
        if held.release.commit {
            held.value.store(self.cells(held.owned.buffer() ^ 1));
        }
        self.lock.release_unseen(held.owned, held.release.commit)
    }

    /// Unlocks, if it is not a fork that has copied the guard: there the lock is the other process's. Gives whether somebody sleeps,
    /// and is to be woken.
    pub(super) fn unlock(&self, owned: Owned, release: Release, forks: u64) -> bool {
        self.forks.is_still(forks) && owned.owner().is_some_and(|me| self.lock.release(me, release))
    }
}

impl<T> Guarded<T> {
    /// The process that has it locked.
    pub(super) fn owner(&self) -> Option<u32> {
        let owner = self.lock.owner()?;
        self.object.attachment.members().identity(owner).map(|who| who.pid())
    }
}

/// Another handle of the same one.
impl<T> Clone for Guarded<T> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            lock: self.lock.clone(),
            buffers: self.buffers.clone(),
            forks: self.forks,
            is: PhantomData,
        }
    }
}
