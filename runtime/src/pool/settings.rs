//! What a pool was told to be.

use std::sync::Arc;
use std::time::Duration;

use super::init::Init;
use crate::plan::StartMethod;
use crate::wire::Limits;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: String,
    /// Whether its workers are threads of this process.
    pub(super) is_local: bool,
    /// Workers that are always there, and the most that there are.
    pub(super) least: usize,
    pub(super) most: usize,
    /// Workers beyond those, which wait to take the place of one that ends.
    pub(super) warm: usize,
    pub(super) concurrency: usize,
    pub(super) limits: Limits,
    pub(super) start_method: Option<StartMethod>,
    pub(super) max_tasks: Option<u64>,
    /// In bytes.
    pub(super) max_rss: Option<u64>,
    pub(super) idle_timeout: Duration,
    pub(super) init: Option<Arc<Init>>,
}

/// What a message of a pool's own takes, besides what is in it.
const FRAME: u64 = 4 << 10;

/// What it may take whatever the limits are: lists of short arguments, and what a worker says of a panic.
const LEAST: u64 = 1 << 20;

/// The limits of a message in which a message of a task's stands.
pub(super) fn with_frame(limits: Limits) -> Limits {
    Limits { max_message: limits.max_message.max(LEAST).saturating_add(FRAME), max_heap: None, ..limits }
}
