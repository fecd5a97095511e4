//! What a ring is asked to do.

use std::io::IoSlice;
use std::sync::Arc;

use qbm_core::{Buffer, Persist};
use rustix::io::ReadWriteFlags;

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

impl Operation {
    /// Does it now, by a call that waits; what a ring would say of it.
    pub(crate) fn perform(&mut self) -> i32 {
        let (file, offset) = (self.file.descriptor(), self.offset);
        let bytes = self.buffer.as_deref_mut().unwrap_or_default();
        let done = match self.call {
            Call::Read => rustix::io::pread(file, bytes, offset),
            Call::Write(persist) => {
                rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, flags_of(persist))
            }
            Call::Sync => rustix::fs::fdatasync(file).map(|()| 0),
        };
        match done {
            // The kernel moves at most 2 GiB in a call.
            Ok(count) => i32::try_from(count).expect("at most 2 GiB"),
            Err(errno) => -errno.raw_os_error(),
        }
    }
}

/// What makes a write durable.
pub(crate) fn flags_of(persist: Persist) -> ReadWriteFlags {
    match persist {
        Persist::Later => ReadWriteFlags::empty(),
        Persist::Now => ReadWriteFlags::DSYNC,
    }
}
