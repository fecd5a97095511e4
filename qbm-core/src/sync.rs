//! What threads share memory through, in one place, so that a model checker can take its place.

#[cfg(not(qbm_loom))]
pub(crate) use std::sync::OnceLock;
#[cfg(not(qbm_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
