//! A storage as a disk: raw bytes, without bitmaps.

use std::io;
use std::sync::{Mutex, PoisonError};

use futures_executor::block_on;
use qbm_core::{Buffer, ByteRange, Error, Persist, Storage, Unmap, image};

use crate::disk::{Context, Disk, Extent, Fault, Pace};
use crate::image::{allocation_flags, fault, refuse_slow, stretches};
use crate::protocol::ErrorCode;

/// The bytes of a storage.
#[derive(Debug)]
pub struct StorageDisk<S> {
    name: String,
    storage: S,
    size: u64,
    /// Whether a sync has failed. Held while one is under way: the failure of a sync is told once, to
    /// whoever asked first, so none begins before that is known.
    sync_failed: Mutex<bool>,
}

impl<S: Storage> StorageDisk<S> {
    /// The bytes of `storage`, which is called `name` where the operator is told of an error.
    ///
    /// # Errors
    ///
    /// If it does not tell its length.
    pub fn new(name: String, storage: S) -> io::Result<Self> {
        let size = block_on(storage.len())?;
        Ok(Self { name, storage, size, sync_failed: Mutex::new(false) })
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// What the first bytes of `range` are, in the terms of an image that has nothing behind it.
    async fn status(&self, range: ByteRange) -> qbm_core::Result<image::Extent> {
        let status = self.storage.block_status(range).await.map_err(self.failed("map"))?;
        let length = status.length.clamp(1, range.length());
        let (start, depth, data) = (range.start(), 0, status.data);
        Ok(image::Extent { start, length, depth, present: true, data })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::Io { file: self.name.clone(), action, error }
    }

    fn done<T>(&self, action: &'static str, done: io::Result<T>) -> Result<T, Fault> {
        done.map_err(self.failed(action)).map_err(|error| fault(&error))
    }
}

impl<S: Storage + 'static> Disk for StorageDisk<S> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        self.done("read", block_on(self.storage.read_at(offset, buffer)))
    }

    fn write(&self, offset: u64, buffer: Buffer, persist: Persist) -> Result<Buffer, Fault> {
        self.done("write", block_on(self.storage.write_at(offset, buffer, persist)))
    }

    fn may_wait(&self, _range: ByteRange) -> bool {
        false
    }

    fn write_zeroes(&self, range: ByteRange, unmap: Unmap, pace: Pace) -> Result<(), Fault> {
        refuse_slow(pace, || block_on(self.storage.zeroes_fast(unmap)))?;
        self.done("write zeroes to", block_on(self.storage.write_zeroes(range, unmap)))
    }

    fn discard(&self, range: ByteRange) -> Result<(), Fault> {
        self.done("discard", block_on(self.storage.discard(range)))
    }

    fn flush(&self) -> Result<(), Fault> {
        let mut failed = self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            // A sync that is repeated proves nothing.
            return Err(fault(&Error::DataSyncFailed));
        }
        // Until its end is known it counts as failed.
        *failed = true;
        self.done("sync", block_on(self.storage.sync()))?;
        *failed = false;
        Ok(())
    }

    fn extents(
        &self,
        context: &Context,
        range: ByteRange,
        most: usize,
    ) -> Result<Vec<Extent>, Fault> {
        match context {
            Context::Allocation => {
                let status = |range| block_on(self.status(range));
                stretches(status, range, most, allocation_flags)
            }
            Context::AllocationDepth => Ok(vec![Extent { length: range.length(), flags: 1 }]),
            Context::DirtyBitmap(_) => {
                Err(Fault::of_client(ErrorCode::Invalid, "there is no such bitmap"))
            }
        }
    }
}
