//! The contract between the core and whatever keeps its bytes.

use std::fmt;
use std::future::Future;
use std::io;

use crate::{Buffer, ByteRange};

/// When a write has to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// With the next [`Storage::sync`].
    Later,
    /// Before the write returns, as if a sync of just these bytes came with it (FUA, `RWF_DSYNC`).
    Now,
}

/// Whether zeroed bytes may give their space back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmap {
    /// The space may be given back.
    Allowed,
    /// The space stays allocated, so that a later write cannot run out of it.
    Forbidden,
}

/// What a stretch of a storage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// Bytes from the offset asked for that are alike. At least one, unless at the end.
    pub length: u64,
    /// Whether they may be something else than zero. `false` proves that they read as zeroes.
    pub data: bool,
}

/// What tells one storage from another, and one state of it from the next.
///
/// Kept at a clean close; a difference at the next open means that somebody wrote in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device that holds it (`st_dev`, or `st_rdev` of a block device).
    pub device: u64,
    /// The inode (`st_ino`), or 0 for a block device.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Last change of contents, in nanoseconds since the epoch; `None` where it is not kept up
    /// to date (block devices).
    pub modified_ns: Option<i64>,
}

/// How a storage is locked against other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// We do nothing, and keep nobody away.
    None,
    /// We read; others may read too, and none may write.
    Read,
    /// We read, write and resize; others may do nothing but inspect.
    Write,
}

/// What a storage is good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Offsets and lengths that are multiples of this are fastest. A power of two, at least 1.
    pub alignment: u32,
    /// The most bytes that one read or write should carry.
    pub max_transfer: u32,
}

/// An array of bytes that survives a crash as far as its last [`sync`](Self::sync).
///
/// This is the contract between `qbm-core` and a backend; [`crate::conformance`] is the same in
/// code, and every backend passes it. Offsets and lengths are in bytes. Calls may come from
/// several threads at once, and no call depends on an executor.
///
/// # Contract
///
/// * **Order.** A read sees every write that returned before the read began. Writes that overlap
///   in time and place leave any mixture of their bytes.
/// * **Durability.** A write is durable once a `sync` begun after its return has returned `Ok`,
///   or at its return with [`Persist::Now`]. A new length is durable by the same rule.
/// * **Crash.** Of bytes written and not yet durable any may persist; no other byte changes.
/// * **Failure.** After a failed `sync` or write with [`Persist::Now`] nothing since the last
///   good one is known to be durable, and a later `Ok` does not change that.
/// * **Ownership.** An operation owns its buffer until it is complete. A future dropped before
///   that does not cancel the operation: it may still happen, until [`settle`](Self::settle).
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a disk is empty")]
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Fills `buffer` from `offset`; never short. Bytes past the end read as zero.
    fn read_at(
        &self,
        offset: u64,
        buffer: Buffer,
    ) -> impl Future<Output = io::Result<Buffer>> + Send;

    /// Writes all of `buffer` at `offset`; never short. A write past the end makes it longer.
    fn write_at(
        &self,
        offset: u64,
        buffer: Buffer,
        persist: Persist,
    ) -> impl Future<Output = io::Result<Buffer>> + Send;

    /// Makes `range` read as zeroes. The length does not change; bytes past it are left alone.
    fn write_zeroes(
        &self,
        range: ByteRange,
        unmap: Unmap,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Whether [`write_zeroes`](Self::write_zeroes) writes no zeroes but at the edges of its range: it then
    /// takes much less time than a write. `false` where the backend cannot know.
    fn zeroes_fast(&self, _unmap: Unmap) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Says that the contents of `range` are no longer wanted. They may change or stay.
    fn discard(&self, range: ByteRange) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes everything durable that was complete when the call began.
    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Drops what reads are answered from besides the medium itself, such as a page cache.
    ///
    /// Where a sync has failed, reads may show bytes that the medium lacks and that no later sync
    /// writes. After a good sync and this, with no write since, they show what is durable.
    fn invalidate_cache(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until every operation whose future was dropped has ended.
    fn settle(&self) -> impl Future<Output = ()> + Send;

    /// The length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>> + Send;

    /// Cuts or extends to `length` bytes; what is added reads as zeroes.
    fn set_len(&self, length: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// What the first bytes of `range` hold, as far as they are alike. Never says "zero" falsely.
    fn block_status(
        &self,
        range: ByteRange,
    ) -> impl Future<Output = io::Result<BlockStatus>> + Send;

    /// What tells this storage and its state from others; `None` where the backend cannot know.
    fn identity(&self) -> impl Future<Output = io::Result<Option<Identity>>> + Send;

    /// Locks the storage until this handle is dropped. Nobody waits for another program to let go.
    ///
    /// A second call changes the lock.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ResourceBusy`] where another handle holds a lock that excludes this one;
    /// its text says who.
    fn lock(&self, lock: Lock) -> impl Future<Output = io::Result<()>> + Send;

    /// What it is good at.
    fn limits(&self) -> Limits;
}
