//! A storage and a directory that count what is asked of them, file by file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use qbm_core::{
    Access, BlockStatus, Buffer, ByteRange, Directory, Identity, Limits, Lock, Persist, Storage,
    Unmap,
};
use qbm_io_std::{StdDirectory, StdFile};

/// What was asked of the data image, and of all other files.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls to the data image.
    pub data: AtomicU64,
    /// Calls to other files.
    pub others: AtomicU64,
    /// Of them, those that make something durable.
    pub syncs: AtomicU64,
}

/// A directory that counts.
#[derive(Clone, Debug)]
pub struct CountedDirectory {
    inner: StdDirectory,
    data: &'static str,
    counts: Arc<Counts>,
}

/// A file that counts.
#[derive(Debug)]
pub struct CountedFile {
    inner: StdFile,
    is_data: bool,
    counts: Arc<Counts>,
}

impl CountedDirectory {
    /// Counts what is asked of the files of `inner`, of which `data` is the data image.
    pub fn new(inner: StdDirectory, data: &'static str) -> (Self, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        (Self { inner, data, counts: Arc::clone(&counts) }, counts)
    }

    fn file(&self, name: &str, inner: StdFile) -> CountedFile {
        CountedFile { inner, is_data: name == self.data, counts: Arc::clone(&self.counts) }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Directory for CountedDirectory {
    type File = CountedFile;

    async fn open(&self, name: &str, access: Access) -> io::Result<CountedFile> {
        Ok(self.file(name, self.inner.open(name, access).await?))
    }

    async fn create(&self, name: &str) -> io::Result<CountedFile> {
        Ok(self.file(name, self.inner.create(name).await?))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name).await
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list().await
    }

    async fn sync(&self) -> io::Result<()> {
        self.inner.sync().await
    }
}

impl CountedFile {
    fn count(&self, durable: bool) {
        let counts = &self.counts;
        let calls = if self.is_data { &counts.data } else { &counts.others };
        calls.fetch_add(1, Ordering::Relaxed);
        if durable && !self.is_data {
            counts.syncs.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Storage for CountedFile {
    async fn read_at(&self, offset: u64, buffer: Buffer) -> io::Result<Buffer> {
        self.count(false);
        self.inner.read_at(offset, buffer).await
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        self.count(persist == Persist::Now);
        self.inner.write_at(offset, buffer, persist).await
    }

    async fn write_zeroes(&self, range: ByteRange, unmap: Unmap) -> io::Result<()> {
        self.count(false);
        self.inner.write_zeroes(range, unmap).await
    }

    async fn zeroes_fast(&self, unmap: Unmap) -> bool {
        self.inner.zeroes_fast(unmap).await
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        self.count(false);
        self.inner.discard(range).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.count(true);
        self.inner.sync().await
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        self.count(false);
        self.inner.invalidate_cache().await
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }

    async fn len(&self) -> io::Result<u64> {
        self.count(false);
        self.inner.len().await
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.count(false);
        self.inner.set_len(length).await
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        self.count(false);
        self.inner.block_status(range).await
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        self.count(false);
        self.inner.identity().await
    }

    async fn lock(&self, lock: Lock) -> io::Result<()> {
        self.count(false);
        self.inner.lock(lock).await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}
