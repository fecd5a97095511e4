//! A file of the simulated disk, as a storage.

use std::io;
use std::sync::Arc;

use qbm_core::{BlockStatus, Buffer, ByteRange, Identity, Limits, Lock, Persist, Storage, Unmap};

use crate::fault::Kind;
use crate::medium::{Change, FileId, index};
use crate::world::{Disk, Effect, World};

/// What is alike is told apart in units of this many bytes.
const EXTENT: u64 = 4096;

/// An open file of a [`Disk`].
#[derive(Debug)]
pub struct SimFile {
    disk: Disk,
    id: FileId,
    handle: u64,
}

impl SimFile {
    pub(crate) fn new(disk: Disk, id: FileId) -> Self {
        let handle = disk.lock().new_handle();
        Self { disk, id, handle }
    }

    async fn change(&self, kind: Kind, change: Change) -> io::Result<()> {
        let effect = match kind {
            Kind::DurableWrite => Effect::ChangeDurably(self.id, change),
            _ => Effect::Change(self.id, change),
        };
        self.disk.operate(kind, Some(self.id), |_| Ok(effect)).await
    }

    /// Asks something that takes its time but changes nothing.
    async fn ask<T>(&self, answer: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        self.disk.operate(Kind::Read, Some(self.id), |_| Ok(Effect::None)).await?;
        answer(&mut self.disk.lock())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let handle = self.handle;
        self.disk.lock().locks.retain(|(_, holder, _)| *holder != handle);
    }
}

impl Storage for SimFile {
    async fn read_at(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        self.ask(|world| {
            let file = world.file(self.id);
            let end = offset + buffer.len() as u64;
            if file.unreadable.is_some_and(|(from, to)| from < end && offset < to) {
                return Err(io::Error::other("unreadable sector"));
            }
            let length = file.cache.len() as u64;
            let part = &file.cache[index(offset.min(length))..index(end.min(length))];
            buffer[..part.len()].copy_from_slice(part);
            buffer[part.len()..].fill(0);
            Ok(buffer)
        })
        .await
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        let kind = match persist {
            Persist::Later => Kind::Write,
            Persist::Now => Kind::DurableWrite,
        };
        self.change(kind, Change::Write(offset, buffer.as_ref().into())).await?;
        Ok(buffer)
    }

    async fn write_zeroes(&self, range: ByteRange, _unmap: Unmap) -> io::Result<()> {
        let length = self.disk.lock().file(self.id).cache.len() as u64;
        let range = range.clip(length);
        let zeroes: Arc<[u8]> = vec![0; index(range.length())].into();
        self.change(Kind::Write, Change::Write(range.start(), zeroes)).await
    }

    async fn zeroes_fast(&self, unmap: Unmap) -> bool {
        // As a file system that can punch holes.
        unmap == Unmap::Allowed
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        // What is discarded may read as zeroes, or stay.
        let zeroes = self.disk.lock().rng.bool();
        let range = if zeroes { range } else { ByteRange::new(range.start(), 0) };
        self.write_zeroes(range, Unmap::Allowed).await
    }

    async fn sync(&self) -> io::Result<()> {
        let effect = |world: &mut World| Ok(Effect::Sync(self.id, world.medium.sequence));
        self.disk.operate(Kind::Sync, Some(self.id), effect).await
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        let effect = |world: &mut World| Ok(Effect::Invalidate(self.id, world.rng.u64(..)));
        self.disk.operate(Kind::Read, Some(self.id), effect).await
    }

    async fn settle(&self) {
        self.disk.settle(self.id).await;
    }

    async fn len(&self) -> io::Result<u64> {
        self.ask(|world| Ok(world.file(self.id).cache.len() as u64)).await
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Kind::SetLen, Change::Length(length)).await
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        self.ask(|world| {
            let bytes = &world.file(self.id).cache;
            let is_data = |offset: u64| {
                let end = ((offset / EXTENT + 1) * EXTENT).min(bytes.len() as u64);
                let start = index((offset - offset % EXTENT).min(end));
                bytes[start..index(end)].iter().any(|byte| *byte != 0)
            };
            let data = is_data(range.start());
            let mut end = range.start();
            while end < range.end() && is_data(end) == data {
                end = (end / EXTENT + 1) * EXTENT;
            }
            Ok(BlockStatus { length: end.min(range.end()) - range.start(), data })
        })
        .await
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        self.ask(|world| {
            let id = self.id;
            let file = world.file(id);
            Ok(Some(Identity {
                device: 1,
                inode: id as u64 + 1,
                size: file.cache.len() as u64,
                modified_ns: i64::try_from(file.changes).ok(),
            }))
        })
        .await
    }

    async fn lock(&self, lock: Lock) -> io::Result<()> {
        let mut world = self.disk.lock();
        let excluded = world.locks.iter().any(|(file, holder, held)| {
            let beside = matches!(
                (*held, lock),
                (Lock::None, _) | (_, Lock::None) | (Lock::Read, Lock::Read)
            );
            *file == self.id && *holder != self.handle && !beside
        });
        if excluded {
            let text = "another handle of the simulated file holds a lock";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        let handle = self.handle;
        world.locks.retain(|(_, holder, _)| *holder != handle);
        world.locks.push((self.id, handle, lock));
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { alignment: 1, max_transfer: 1 << 20 }
    }
}
