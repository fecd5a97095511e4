//! The contract between the server and what it serves.

use qbm_core::{Buffer, ByteRange, Persist, Unmap};

use crate::protocol::ErrorCode;

/// A disk that can be served.
///
/// `qbm-core`'s images are one; an embedder may serve storage of its own. Calls come from several
/// threads at once and block them. Offsets and lengths are in bytes, and every range that the server
/// passes is within [`size`](Self::size).
///
/// # Contract
///
/// * A read sees every write that returned before the read began.
/// * [`flush`](Self::flush) makes durable what had returned when it was called, whoever wrote it:
///   clients may spread their requests over several connections.
/// * A disk that panics ends the connection that asked, and no other.
pub trait Disk: Send + Sync + 'static {
    /// Its size in bytes; it does not change while it is served.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    ///
    /// What to tell the client. The buffer is then lost.
    fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault>;

    /// Writes all of `buffer` at `offset`.
    ///
    /// # Errors
    ///
    /// What to tell the client. The buffer is then lost, and any part of it may be written.
    fn write(&self, offset: u64, buffer: Buffer, persist: Persist) -> Result<Buffer, Fault>;

    /// Whether a write to `range` is likely to wait for something else than the copying of its
    /// bytes. A hint: the connection then takes its next request on another thread at once.
    fn may_wait(&self, range: ByteRange) -> bool;

    /// Makes `range` read as zeroes.
    ///
    /// # Errors
    ///
    /// What to tell the client; [`ErrorCode::NotSupported`] if it had to be [`Pace::Fast`] and
    /// that cannot be promised.
    fn write_zeroes(&self, range: ByteRange, unmap: Unmap, pace: Pace) -> Result<(), Fault>;

    /// Says that the contents of `range` are no longer wanted. They may change or stay.
    ///
    /// # Errors
    ///
    /// What to tell the client.
    fn discard(&self, range: ByteRange) -> Result<(), Fault>;

    /// Makes everything durable that had returned when the call began.
    ///
    /// # Errors
    ///
    /// What to tell the client.
    fn flush(&self) -> Result<(), Fault>;

    /// What `range`, which is not empty, is in terms of `context`: at most `most` extents that
    /// follow each other from its start, each of at least one byte. They may end before the range
    /// does, but never after it.
    ///
    /// # Errors
    ///
    /// What to tell the client.
    fn extents(
        &self,
        context: &Context,
        range: ByteRange,
        most: usize,
    ) -> Result<Vec<Extent>, Fault>;
}

/// How long zeroes may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As long as a write of the same length.
    Any,
    /// Much less: no byte of zeroes is written.
    Fast,
}

/// A way to look at the extents of a disk: a metadata context of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// `base:allocation`: holes, and what reads as zeroes.
    Allocation,
    /// `qemu:allocation-depth`: the layer that answers for it; 1 is the top, 0 is none.
    AllocationDepth,
    /// `qemu:dirty-bitmap:NAME`: what a dirty bitmap marks.
    DirtyBitmap(String),
}

impl Context {
    /// The name that it has in the protocol.
    pub fn name(&self) -> String {
        match self {
            Self::Allocation => "base:allocation".to_owned(),
            Self::AllocationDepth => "qemu:allocation-depth".to_owned(),
            Self::DirtyBitmap(bitmap) => format!("qemu:dirty-bitmap:{bitmap}"),
        }
    }
}

/// A stretch of the disk that is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its bytes; at least one.
    pub length: u64,
    /// What it is, in the flags of its context.
    pub flags: u32,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", detail.as_deref().unwrap_or(what))]
pub struct Fault {
    /// What the client is told.
    pub code: ErrorCode,
    /// The same in words. Clients are strangers, so it names no file of ours.
    pub what: &'static str,
    /// What the operator is told, if it concerns the operator.
    pub detail: Option<String>,
}

impl Fault {
    /// A request that could not be, which concerns the client only.
    pub fn of_client(code: ErrorCode, what: &'static str) -> Self {
        Self { code, what, detail: None }
    }
}
