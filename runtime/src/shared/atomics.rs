//! The atomics that [`words`](super::words) are made of. The models of the tests put loom's in their place.

pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
