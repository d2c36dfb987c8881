//! What a pool was told to be.

use crate::plan::StartMethod;
use crate::wire::Limits;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: String,
    /// Workers that are always there, and the most that there are.
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) concurrency: usize,
    pub(super) limits: Limits,
    pub(super) start_method: Option<StartMethod>,
    pub(super) max_tasks: Option<u64>,
}
