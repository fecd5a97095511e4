//! What a ring is asked to do.

use std::sync::Arc;

use qbm_core::{Buffer, Persist};

use crate::file::Files;

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Fill the buffer, past the page cache.
    Read,
    /// Write the buffer, past the page cache.
    Write(Persist),
    /// Make all of the file durable.
    Sync,
}

impl Call {
    /// Whether a failure means that what is durable is not known.
    pub(crate) fn makes_durable(self) -> bool {
        matches!(self, Self::Write(Persist::Now) | Self::Sync)
    }
}

/// A call with all that the kernel uses for it.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) file: Arc<Files>,
    pub(crate) call: Call,
    /// Where in the file; 0 for a sync.
    pub(crate) offset: u64,
    /// What is read or written; `None` for a sync.
    pub(crate) buffer: Option<Buffer>,
}
