//! A file or block device as a storage, past the page cache where that can be.
//!
//! The file is open twice: by [`StdFile`], through the page cache, and directly.
//!
//! # Invariants
//!
//! * A direct transfer moves whole pages, and no other bytes.
//! * While bytes are written through the page cache, no direct write is under way. The kernel keeps the
//!   two coherent one after the other: a direct transfer first writes out what the cache has of its
//!   pages, and a direct write drops them. At the same time it does not: a page written out late would
//!   undo a direct write to another part of it.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::FutureExt;
use qbm_core::{BlockStatus, Buffer, ByteRange, Identity, Limits, Lock, Persist, Storage, Unmap};
use qbm_io_std::StdFile;
use rustix::fs::{Mode, OFlags, fcntl_getfl};
use rustix::io::Errno;

use crate::flight::Flight;
use crate::operation::{Call, Operation};
use crate::pool;

/// What a buffer's memory is aligned to for every direct transfer.
const MEMORY_ALIGNMENT: usize = qbm_core::buffer::ALIGNMENT;

const HAS_BUFFER: &str = "a transfer has a buffer";

/// An open regular file or block device.
#[derive(Debug)]
pub struct UringFile(Arc<Files>);

/// What an operation keeps open until it is done.
#[derive(Debug)]
pub(crate) struct Files {
    std: StdFile,
    rings: bool,
    /// `None` where all goes through the page cache. It has the locks: a killed process leaves them to
    /// its operations until they are done, so that none of them comes after another program's.
    direct: Option<StdFile>,
    /// Held shared while a direct write is started, and alone while the page cache is written to.
    gate: RwLock<()>,
    /// Direct writes under way, in any ring.
    writes: AtomicUsize,
}

impl UringFile {
    /// Lets rings read, write and sync `file`. Where the file system has no direct I/O, they only sync
    /// it: for the page cache a plain system call is faster.
    pub fn new(file: StdFile) -> Self {
        let direct = open_directly(&file).ok();
        Self::with(file, true, direct)
    }

    /// Leaves `file` as it is.
    pub fn without_rings(file: StdFile) -> Self {
        Self::with(file, false, None)
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.0.std.is_block_device()
    }

    /// Whether whole pages go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.0.direct.is_some()
    }

    fn with(std: StdFile, rings: bool, direct: Option<StdFile>) -> Self {
        let (gate, writes) = (RwLock::default(), AtomicUsize::new(0));
        Self(Arc::new(Files { std, rings, direct, gate, writes }))
    }

    /// Moves as many bytes as a ring can; how many. The caller does the rest by the page cache.
    async fn transfer(
        &self,
        call: Call,
        offset: u64,
        buffer: Buffer,
    ) -> io::Result<(Buffer, usize)> {
        let flight = match self.begin_transfer(call, offset, buffer) {
            Ok(flight) => flight,
            Err(buffer) => return Ok((buffer, 0)),
        };
        let (operation, moved) = flight.await;
        let buffer = operation.buffer.expect(HAS_BUFFER);
        match moved {
            Err(error) if is_not_done(&error) => Ok((buffer, 0)),
            moved => Ok((buffer, moved?)),
        }
    }

    fn begin_transfer(&self, call: Call, offset: u64, buffer: Buffer) -> Result<Flight, Buffer> {
        if self.0.direct.is_none() || !is_whole_pages(offset, &buffer) {
            return Err(buffer);
        }
        let _shared = (call != Call::Read)
            .then(|| self.0.gate.read().unwrap_or_else(PoisonError::into_inner));
        let operation = Operation { file: Arc::clone(&self.0), call, offset, buffer: Some(buffer) };
        Flight::begin(operation).map_err(|refused| refused.buffer.expect(HAS_BUFFER))
    }

    /// Lets `work` write through the page cache.
    fn alone<'f, W, T>(&'f self, work: impl FnOnce(&'f StdFile) -> W) -> io::Result<T>
    where
        W: Future<Output = io::Result<T>>,
    {
        // Without direct writes there is nothing to be kept apart.
        let _alone = self.0.direct.as_ref().map(|_| {
            let alone = self.0.gate.write().unwrap_or_else(PoisonError::into_inner);
            // None can begin any more.
            pool::finish(&self.0);
            alone
        });
        work(&self.0.std).now_or_never().expect("its futures are complete when first polled")
    }
}

impl Files {
    /// What rings use, and what has the locks.
    fn in_rings(&self) -> &StdFile {
        self.direct.as_ref().unwrap_or(&self.std)
    }

    /// What the kernel is told to use.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.in_rings().as_fd()
    }

    /// A ring has got an operation.
    pub(crate) fn begin(&self, call: Call) {
        if matches!(call, Call::Write(_)) {
            self.writes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// An operation is done, whether or not anybody waits for it.
    pub(crate) fn end(&self, call: Call, result: i32) {
        if call.makes_durable() && result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            if !is_not_done(&error) {
                // Whoever waits gets the error as well.
                let _noted: io::Result<()> = self.std.durable().note(Err(error));
            }
        }
        if matches!(call, Call::Write(_)) {
            self.writes.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether a direct write is under way.
    pub(crate) fn has_writes(&self) -> bool {
        self.writes.load(Ordering::Acquire) > 0
    }
}

/// Opens `file` once more, for direct transfers: by its descriptor, so that it is the same file
/// whatever has become of its name.
fn open_directly(file: &StdFile) -> io::Result<StdFile> {
    let mode = fcntl_getfl(file)? & OFlags::RWMODE;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = mode | OFlags::DIRECT | OFlags::CLOEXEC;
    StdFile::from_file(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Whether a direct transfer can move `buffer`. Pages, since the page cache has no smaller unit, and
/// no file system that has direct I/O wants a larger one.
fn is_whole_pages(offset: u64, buffer: &Buffer) -> bool {
    let page = rustix::param::page_size();
    !buffer.is_empty()
        && offset.is_multiple_of(page as u64)
        && buffer.len().is_multiple_of(page)
        && buffer.as_ptr().addr().is_multiple_of(MEMORY_ALIGNMENT)
}

/// Whether the kernel did not do it, and the page cache may: it would have had to wait, the thread
/// that began it ended, or this file system wants something else of direct transfers after all.
fn is_not_done(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let not_done = [Errno::AGAIN, Errno::INTR, Errno::CANCELED, Errno::INVAL, Errno::OPNOTSUPP];
    errno.is_some_and(|errno| not_done.contains(&errno))
}

/// `buffer` without the first `done` bytes of what it shows, and what it shows now.
fn rest_of(buffer: Buffer, done: usize) -> (Buffer, std::ops::Range<usize>) {
    let window = buffer.window();
    (buffer.narrow(window.start + done..window.end), window)
}

impl Storage for UringFile {
    async fn read_at(&self, offset: u64, buffer: Buffer) -> io::Result<Buffer> {
        let (buffer, done) = self.transfer(Call::Read, offset, buffer).await?;
        if done == buffer.len() && done > 0 {
            return Ok(buffer);
        }
        // What is no whole page, and what is past the end.
        let (rest, window) = rest_of(buffer, done);
        Ok(self.0.std.read_at(offset + done as u64, rest).await?.narrow(window))
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        if persist == Persist::Now {
            self.0.std.durable().check()?;
        }
        let (buffer, done) = self.transfer(Call::Write(persist), offset, buffer).await?;
        if done == buffer.len() && done > 0 {
            return Ok(buffer);
        }
        let (rest, window) = rest_of(buffer, done);
        let written = self.alone(|std| std.write_at(offset + done as u64, rest, persist))?;
        Ok(written.narrow(window))
    }

    async fn write_zeroes(&self, range: ByteRange, unmap: Unmap) -> io::Result<()> {
        self.alone(|std| std.write_zeroes(range, unmap))
    }

    async fn zeroes_fast(&self, unmap: Unmap) -> bool {
        self.0.std.zeroes_fast(unmap).await
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        self.0.std.discard(range).await
    }

    async fn sync(&self) -> io::Result<()> {
        if !self.0.rings {
            return self.0.std.sync().await;
        }
        self.0.std.durable().check()?;
        let file = Arc::clone(&self.0);
        let operation = Operation { file, call: Call::Sync, offset: 0, buffer: None };
        let Ok(flight) = Flight::begin(operation) else { return self.0.std.sync().await };
        match flight.await.1 {
            Err(error) if is_not_done(&error) => self.0.std.sync().await,
            done => done.map(drop),
        }
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        self.0.std.invalidate_cache().await
    }

    async fn settle(&self) {
        // A dropped future has waited already; one that was forgotten has not.
        pool::finish(&self.0);
    }

    async fn len(&self) -> io::Result<u64> {
        self.0.std.len().await
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.alone(|std| std.set_len(length))
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        self.0.std.block_status(range).await
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        self.0.std.identity().await
    }

    async fn lock(&self, lock: Lock) -> io::Result<()> {
        self.0.in_rings().lock(lock).await
    }

    fn limits(&self) -> Limits {
        self.0.std.limits()
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use qbm_core::{Access, conformance};

    use super::*;

    fn std_file() -> (tempfile::NamedTempFile, StdFile) {
        let path = tempfile::NamedTempFile::new().unwrap();
        path.as_file().set_len(conformance::STORAGE_LENGTH).unwrap();
        let file = StdFile::open_operator(path.path(), Access::Write).unwrap();
        (path, file)
    }

    #[test]
    fn a_file_without_direct_transfers_keeps_the_contract() {
        let (path, _) = std_file();
        block_on(conformance::check_storage(async || {
            UringFile::with(StdFile::open_operator(path.path(), Access::Write).unwrap(), true, None)
        }));
    }

    #[test]
    fn only_whole_pages_in_aligned_memory_are_moved_directly() {
        let page = rustix::param::page_size();
        let at = page as u64;
        assert!(is_whole_pages(0, &Buffer::zeroed(page)));
        assert!(is_whole_pages(at, &Buffer::zeroed(3 * page)));
        assert!(!is_whole_pages(0, &Buffer::zeroed(0)));
        assert!(!is_whole_pages(512, &Buffer::zeroed(page)));
        assert!(!is_whole_pages(0, &Buffer::zeroed(page + 512)));
        assert!(!is_whole_pages(0, &Buffer::zeroed(2 * page).narrow(512..512 + page)));
    }

    /// So that a killed process's operations keep its locks until they are done.
    #[test]
    fn what_rings_use_has_the_locks() {
        let file = UringFile::new(std_file().1);
        block_on(file.lock(Lock::Write)).unwrap();
        let number = file.0.descriptor().as_raw_fd();
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        assert!(told.contains("OFDLCK"), "{told}");
    }

    #[test]
    fn a_failed_sync_is_remembered_also_when_nobody_waits_for_it() {
        for call in [Call::Sync, Call::Write(Persist::Now)] {
            let file = UringFile::new(std_file().1);
            file.0.begin(call);
            // What was not begun is done otherwise, and says nothing.
            file.0.end(call, -Errno::CANCELED.raw_os_error());
            block_on(file.sync()).unwrap();
            file.0.begin(call);
            file.0.end(call, -Errno::IO.raw_os_error());
            let text = "an earlier sync of this file failed; open it again";
            assert_eq!(block_on(file.sync()).unwrap_err().to_string(), text);
            let buffer = Buffer::zeroed(4096);
            let refused = block_on(file.write_at(0, buffer, Persist::Now)).unwrap_err();
            assert_eq!(refused.to_string(), text);
        }
    }
}
