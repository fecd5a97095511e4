//! A storage as a disk: raw bytes, without bitmaps.

use std::io;
use std::sync::{Mutex, PoisonError};

use futures_executor::block_on;
use qbm_core::{Buffer, ByteRange, Error, Persist, Storage, Unmap};

use crate::disk::{Context, Disk, Extent, Fault, Pace};
use crate::image::fault;
use crate::protocol::{ErrorCode, allocation_flag};

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

    fn done<T>(&self, action: &'static str, done: io::Result<T>) -> Result<T, Fault> {
        done.map_err(|error| fault(&Error::Io { file: self.name.clone(), action, error }))
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
        if pace == Pace::Fast && !block_on(self.storage.zeroes_fast(unmap)) {
            let what = "zeroes would have to be written";
            return Err(Fault::of_client(ErrorCode::NotSupported, what));
        }
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
                let mut extents: Vec<Extent> = Vec::new();
                let mut offset = range.start();
                while offset < range.end() && extents.len() < most {
                    let rest = ByteRange::new(offset, range.end() - offset);
                    let status = self.done("map", block_on(self.storage.block_status(rest)))?;
                    let length = status.length.clamp(1, rest.length());
                    let hole = allocation_flag::HOLE | allocation_flag::ZERO;
                    extents.push(Extent { length, flags: if status.data { 0 } else { hole } });
                    offset += length;
                }
                Ok(extents)
            }
            Context::AllocationDepth => Ok(vec![Extent { length: range.length(), flags: 1 }]),
            Context::DirtyBitmap(_) => {
                Err(Fault::of_client(ErrorCode::Invalid, "there is no such bitmap"))
            }
        }
    }
}
