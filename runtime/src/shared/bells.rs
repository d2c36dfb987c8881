//! What wakes processes: the bells of a region.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::words::Member;
use crate::sys;

/// Descriptors that every process of a region has. One that is rung becomes readable for all that watch it, edge by edge: nobody
/// reads it, so that nobody can take another's wake-up away. Each is the bell of some of the members.
#[derive(Debug)]
pub(super) struct Bells(Vec<Arc<OwnedFd>>);

/// The most of a region: a word has a bit for each.
const MOST: usize = u32::BITS as usize;

impl Bells {
    pub(super) fn new(count: usize) -> io::Result<Self> {
        (0..count).map(|_| sys::new_bell().map(Arc::new)).collect::<io::Result<_>>().map(Self)
    }

    /// # Errors
    /// If they are no bells, or not as many as there can be.
    pub(super) fn from_handles(handles: &[Arc<OwnedFd>]) -> io::Result<Self> {
        let are_bells = handles.iter().all(|handle| sys::check_bell(handle.as_fd()).is_ok());
        if handles.is_empty() || handles.len() > MOST || !are_bells {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a region has not the bells that it should",
            ));
        }
        Ok(Self(handles.to_vec()))
    }

    pub(super) fn handles(&self) -> impl ExactSizeIterator<Item = &Arc<OwnedFd>> {
        self.0.iter()
    }

    /// Beside which one a member sleeps.
    pub(super) fn of(&self, member: Member) -> u32 {
        (member.slot() % self.0.len()) as u32
    }

    /// What becomes readable when a bell is rung.
    pub(super) fn listener(&self, bell: u32) -> Option<&Arc<OwnedFd>> {
        self.0.get(bell as usize)
    }

    /// Rings those whose bits are set, of which a peer may have set any.
    pub(super) fn ring(&self, bells: u32) {
        let are_set = self.0.iter().zip(0..).filter(|(_, bell)| bells & 1 << bell != 0);
        are_set.for_each(|(bell, _)| sys::ring(bell.as_fd()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(bells: &Bells) -> Vec<usize> {
        let is_rung = |bell: &usize| sys::is_readable(bells.0[*bell].as_fd());
        (0..bells.0.len()).filter(is_rung).collect()
    }

    #[test]
    fn those_are_rung_whose_bits_are_set() {
        for set in 0..32_u32 {
            for beyond in [0, 1 << 5, 1 << 31, !0 << 5] {
                let bells = Bells::new(5).unwrap();
                bells.ring(set | beyond);
                let expected: Vec<_> = (0..5).filter(|bell| set & 1 << bell != 0).collect();
                assert_eq!(rung(&bells), expected, "{set:b} {beyond:b}");
            }
        }
    }

    #[test]
    fn each_bit_of_a_word_can_be_a_bell() {
        for bell in 0..MOST {
            let bells = Bells::new(MOST).unwrap();
            bells.ring(1 << bell);
            assert_eq!(rung(&bells), [bell]);
        }
    }
}
