//! The word of a lock.

use super::Ordering::{AcqRel, Acquire, Relaxed, Release as Releasing};
use super::{AtomicU64, Member, Members, TRIES, Wait};

/// A lock: who owns it, which of its two buffers was committed last, and who sleeps by it.
///
/// | bits of `word` | say |
/// |---|---|
/// | 0 | somebody sleeps until the owner goes |
/// | 1 | which buffer was committed last |
/// | 2 | an owner died, and nobody has said since that the value is whole |
/// | 8 to 33 | the owner; zero if it is free |
///
/// | from | to | by |
/// |---|---|---|
/// | free | owned | [`try_acquire_free`](Self::try_acquire_free), [`try_acquire`](Self::try_acquire) |
/// | owned by a live member | the same, slept by | [`sleep`](Self::sleep) |
/// | owned by one that is no member any more | owned, an owner died | `try_acquire` |
/// | owned | free, the other buffer or not | [`release_unseen`](Self::release_unseen), [`release`](Self::release) |
///
/// To commit and to release is one step: a value is never half committed.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Lock {
    word: AtomicU64,
    /// How often it was acquired. Only its owner writes it.
    tokens: AtomicU64,
    pub(crate) wait: Wait,
}

const SLEPT_BY: u64 = 1;
const BUFFER: u64 = 2;
const DIED: u64 = 4;
const OWNER: u32 = 8;
const OWNERS: u64 = ((1 << Member::BITS) - 1) << OWNER;

/// A bit that no lock has.
const NO_LOCK: u64 = 1 << 63;

/// What the word of a lock says as long as a member has it, if nobody sleeps and no owner has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owned(u64);

impl Owned {
    /// Which buffer was committed last.
    #[inline]
    pub(crate) const fn buffer(self) -> usize {
        buffer_of(self.0)
    }

    /// The same, which [`Lock::release_unseen`] does not leave.
    pub(crate) const fn at_length(self) -> Self {
        Self(self.0 | NO_LOCK)
    }

    /// Who has it.
    pub(crate) fn owner(self) -> Option<Member> {
        owner_of(self.0)
    }
}

/// What came of an attempt to acquire a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Acquired {
        owned: Owned,
        /// Higher than that of any acquisition before.
        token: u64,
        /// An owner died, and nobody has said since that the value is whole.
        owner_died: bool,
    },
    /// By whom, as far as it can be read.
    Held(Option<Member>),
}

/// How to leave a lock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Release {
    /// The other buffer is the value.
    pub(crate) commit: bool,
    /// The value is whole, although an owner died.
    pub(crate) recover: bool,
}

impl Lock {
    /// How far the word that sleepers wait by stands behind its beginning.
    pub(crate) const WAIT: usize = 16;

    /// Acquires it for a member, if it is free and no owner has died; gives the token, too.
    #[inline(always)]
    pub(crate) fn try_acquire_free(&self, me: Member) -> Option<(Owned, u64)> {
        let word = self.word.load(Relaxed);
        let (is_free, after) = (word & !BUFFER == 0, word | me.bits() << OWNER);
        // Acquire: what the last owner has written is there.
        let is_mine = is_free && self.word.compare_exchange(word, after, Acquire, Relaxed).is_ok();
        is_mine.then(|| (Owned(after), self.next_token()))
    }

    /// Acquires it for a member, if it is free or its owner is no member any more.
    #[inline]
    pub(crate) fn try_acquire(&self, me: Member, members: Members<'_>) -> Attempt {
        let mut word = self.word.load(Relaxed);
        for _ in 0..TRIES {
            let mut after = word & !OWNERS | me.bits() << OWNER;
            if word & OWNERS != 0 {
                let owner = owner_of(word);
                // What no member of ours can be is waited for: it cannot be told from one that was just changed.
                if owner.is_none_or(|owner| members.contains(owner)) {
                    return Attempt::Held(owner);
                }
                after |= DIED;
            }
            // Acquire: what the last owner has written is there.
            match self.word.compare_exchange_weak(word, after, Acquire, Relaxed) {
                Ok(_) => return self.acquired(after),
                Err(other) => word = other,
            }
        }
        Attempt::Held(owner_of(word))
    }

    #[inline]
    fn acquired(&self, word: u64) -> Attempt {
        let owned = Owned(word & (OWNERS | BUFFER));
        Attempt::Acquired { owned, token: self.next_token(), owner_died: word & DIED != 0 }
    }

    /// For the owner alone.
    #[inline]
    fn next_token(&self) -> u64 {
        let token = self.tokens.load(Relaxed).wrapping_add(1);
        self.tokens.store(token, Relaxed);
        token
    }

    /// Has the owner wake who sleeps, when it goes. Gives `false` if there is none to wait for.
    pub(crate) fn sleep(&self, members: Members<'_>) -> bool {
        let mut word = self.word.load(Relaxed);
        for _ in 0..TRIES {
            if word & OWNERS == 0 || owner_of(word).is_some_and(|owner| !members.contains(owner)) {
                return false;
            }
            match self.word.compare_exchange_weak(word, word | SLEPT_BY, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
        true
    }

    /// Leaves it, if nobody sleeps and no owner has died. If it gives `false`, nothing has changed, and
    /// [`release`](Self::release) is to follow.
    #[inline(always)]
    pub(crate) fn release_unseen(&self, owned: Owned, commit: bool) -> bool {
        let after = owned.0 & BUFFER ^ if commit { BUFFER } else { 0 };
        // Release: the next owner sees what this one has written.
        self.word.compare_exchange(owned.0, after, Releasing, Relaxed).is_ok()
    }

    /// Leaves it; gives whether somebody sleeps, and is to be woken by [`Wait::wake`].
    pub(crate) fn release(&self, me: Member, how: Release) -> bool {
        let mut word = self.word.load(Relaxed);
        for _ in 0..TRIES {
            if word & OWNERS != me.bits() << OWNER {
                return false;
            }
            let cleared = OWNERS | SLEPT_BY | if how.recover { DIED } else { 0 };
            let after = (word & !cleared) ^ if how.commit { BUFFER } else { 0 };
            // Release: the next owner sees what this one has written.
            match self.word.compare_exchange_weak(word, after, Releasing, Relaxed) {
                Ok(_) => return word & SLEPT_BY != 0,
                Err(other) => word = other,
            }
        }
        false
    }

    /// Looks at it without acquiring it: which buffer was committed last, and whether an owner died since anybody has said
    /// that the value is whole. If a live member owns it, gives which.
    pub(crate) fn look(&self, members: Members<'_>) -> Result<(usize, bool), Option<Member>> {
        // Acquire: what the last owner has written is there.
        let mut word = self.word.load(Acquire);
        for _ in 0..TRIES {
            let (is_owned, owner) = (word & OWNERS != 0, owner_of(word));
            if is_owned && owner.is_none_or(|owner| members.contains(owner)) {
                return Err(owner);
            }
            // Once more, behind the look at the members: it may have been released before the owner left or died.
            let again = self.word.load(Acquire);
            if !is_owned || again == word {
                return Ok((buffer_of(word), is_owned || word & DIED != 0));
            }
            word = again;
        }
        Err(owner_of(word))
    }

    /// Says that the value is whole, although an owner died, without acquiring it. Who sleeps is to be woken.
    pub(crate) fn recover(&self, members: Members<'_>) {
        let mut word = self.word.load(Relaxed);
        for _ in 0..TRIES {
            let is_dead = owner_of(word).is_some_and(|owner| !members.contains(owner));
            let after = word & !(DIED | if is_dead { OWNERS | SLEPT_BY } else { 0 });
            match self.word.compare_exchange_weak(word, after, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(other) => word = other,
            }
        }
    }

    /// Who owns it.
    pub(crate) fn owner(&self) -> Option<Member> {
        owner_of(self.word.load(Acquire))
    }
}

#[inline]
const fn buffer_of(word: u64) -> usize {
    (word & BUFFER != 0) as usize
}

#[inline]
fn owner_of(word: u64) -> Option<Member> {
    Member::from_bits((word & OWNERS) >> OWNER)
}
