//! Storage in memory that keeps the contract but for one planted defect.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use async_trait::async_trait;
use qbm_core::{
    Access, BlockStatus, Buffer, ByteRange, Directory, Identity, Limits, Lock, Persist, Storage,
    Unmap,
};

use crate::defect::Defect;

const BLOCK: usize = 4096;

#[derive(Debug, Default)]
struct Contents {
    /// All that was ever written; what is past `length` was cut off.
    bytes: Vec<u8>,
    length: usize,
    /// Writes that were begun and whose future was dropped.
    late: Vec<(usize, Vec<u8>)>,
    locks: Vec<(u64, Lock)>,
}

impl Contents {
    fn current(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn resize(&mut self, length: usize, defect: Defect) {
        let cut = match defect {
            Defect::CutBytesReturn => self.bytes.len(),
            Defect::GapKeepsCutBytes if length < self.length => self.bytes.len(),
            _ => self.length.min(length),
        };
        self.bytes.truncate(cut);
        if self.bytes.len() < length {
            self.bytes.resize(length, if defect == Defect::AddsGarbage { 0xAA } else { 0 });
        }
        self.length = length;
    }

    fn write(&mut self, start: usize, bytes: &[u8], defect: Defect) {
        let end = start + bytes.len();
        let adds = !bytes.is_empty() || defect == Defect::EmptyWriteAdds;
        if end > self.length && adds && defect != Defect::GapKeepsCutBytes {
            self.resize(end, defect);
        }
        if end > self.length && adds {
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.length = end;
        }
        if !bytes.is_empty() {
            self.bytes[start..end].copy_from_slice(bytes);
        }
    }

    /// The bytes there, as far as there are any.
    fn part(&self, start: usize, count: usize) -> Vec<u8> {
        self.current().iter().skip(start).take(count).copied().collect()
    }

    fn identity(&self) -> Identity {
        Identity { device: 1, inode: 1, size: self.length as u64, modified_ns: None }
    }
}

/// A handle of a file.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    contents: Arc<Mutex<Contents>>,
    first_identity: Identity,
    defect: Defect,
    handle: u64,
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("small offsets in tests")
}

/// Lets the others run once.
async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl MemoryFile {
    fn new(contents: Arc<Mutex<Contents>>, defect: Defect) -> Self {
        static HANDLES: AtomicU64 = AtomicU64::new(0);
        let handle = HANDLES.fetch_add(1, Ordering::Relaxed);
        let first_identity = contents.lock().expect("no panic inside").identity();
        Self { contents, first_identity, defect, handle }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn lock_contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().expect("no panic inside")
    }

    /// The range as a defective backend may understand it, within the file.
    fn rounded(&self, range: ByteRange, outwards: Defect, inwards: Defect) -> (usize, usize) {
        let (mut start, mut end) = (index(range.start()), index(range.end()));
        if self.has(outwards) {
            (start, end) = (start / 512 * 512, end.next_multiple_of(512));
        }
        if self.has(Defect::EmptyRangeIsABlock) && start == end {
            end += BLOCK;
        }
        if self.has(inwards) {
            (start, end) = (start.next_multiple_of(512), end / 512 * 512);
        }
        let length = self.lock_contents().length;
        let end = end.min(length);
        (start.min(end), end)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if !self.has(Defect::LockOutlivesItsHandle) {
            let handle = self.handle;
            self.lock_contents().locks.retain(|(holder, _)| *holder != handle);
        }
    }
}

impl Storage for MemoryFile {
    async fn read_at(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        if self.has(Defect::ReadsOverTheWholeBuffer) {
            let count = buffer.len();
            buffer = Buffer::zeroed(buffer.widen().len()).narrow(0..count);
        }
        let contents = self.lock_contents();
        let current = contents.current();
        let start = index(offset).min(current.len());
        let count = buffer.len().min(current.len() - start);
        buffer[..count].copy_from_slice(&current[start..start + count]);
        if !self.has(Defect::ReadLeavesTheRest) {
            buffer[count..].fill(0);
        }
        Ok(buffer)
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        let start = index(offset);
        let buffer = if self.has(Defect::WritesTheWholeBuffer) { buffer.widen() } else { buffer };
        let mut bytes = buffer.to_vec();
        match self.defect {
            Defect::DropsTheLastByte => _ = bytes.pop(),
            Defect::DropsDurableWrites if persist == Persist::Now => bytes.clear(),
            Defect::WritesBackWhatItRead => {
                let mut copy = self.lock_contents().current().to_vec();
                pause().await;
                let end = start + bytes.len();
                copy.resize(copy.len().max(end), 0);
                copy[start..end].copy_from_slice(&bytes);
                let mut contents = self.lock_contents();
                (contents.length, contents.bytes) = (copy.len(), copy);
                return Ok(buffer);
            }
            Defect::DroppedWriteComesLate => {
                self.lock_contents().late.push((start, bytes.clone()));
                pause().await;
                self.lock_contents().late.pop();
            }
            Defect::WritesDifferences => {
                let before = self.lock_contents().part(start, bytes.len());
                pause().await;
                let now = self.lock_contents().part(start, bytes.len());
                for (byte, (before, now)) in bytes.iter_mut().zip(before.iter().zip(now)) {
                    *byte ^= before ^ now;
                }
            }
            _ => {}
        }
        self.lock_contents().write(start, &bytes, self.defect);
        Ok(buffer)
    }

    async fn write_zeroes(&self, range: ByteRange, unmap: Unmap) -> io::Result<()> {
        if self.has(Defect::ZeroingAdds) {
            let mut contents = self.lock_contents();
            let length = contents.length.max(index(range.end()));
            contents.resize(length, self.defect);
        }
        if self.has(Defect::ZeroesOnlyWhatItMayUnmap) && unmap == Unmap::Forbidden {
            return Ok(());
        }
        let (start, end) =
            self.rounded(range, Defect::ZeroesRoundOutwards, Defect::ZeroesRoundInwards);
        self.lock_contents().bytes[start..end].fill(0);
        Ok(())
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        let (start, end) = self.rounded(range, Defect::DiscardRoundsOutwards, Defect::Nothing);
        self.lock_contents().bytes[start..end].fill(0);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        let mut contents = self.lock_contents();
        for (start, bytes) in std::mem::take(&mut contents.late) {
            contents.write(start, &bytes, self.defect);
        }
        Ok(())
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    async fn settle(&self) {}

    async fn len(&self) -> io::Result<u64> {
        Ok(self.lock_contents().length as u64)
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        let mut contents = self.lock_contents();
        if !self.has(Defect::NeverShrinks) || index(length) > contents.length {
            contents.resize(index(length), self.defect);
        }
        Ok(())
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        let contents = self.lock_contents();
        let (start, asked) = (index(range.start()), index(range.length()));
        let block = BLOCK - start % BLOCK;
        let length = match self.defect {
            Defect::StatusStalls => 0,
            Defect::StatusSaysTooMuch => block,
            _ => block.min(asked),
        };
        let seen = if self.has(Defect::StatusLooksAtOneByte) { 1 } else { block };
        let bytes = contents.current();
        let end = (start + seen).min(bytes.len());
        let data = bytes[start.min(end)..end].iter().any(|byte| *byte != 0);
        Ok(BlockStatus { length: length as u64, data })
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        let now = self.lock_contents().identity();
        Ok(Some(match self.defect {
            Defect::IdentityIsThatOfTheOpening => self.first_identity,
            Defect::IdentityIsThatOfTheHandle => Identity { inode: self.handle, ..now },
            _ => now,
        }))
    }

    async fn lock(&self, lock: Lock) -> io::Result<()> {
        let mut contents = self.lock_contents();
        let excludes = |held: Lock| match self.defect {
            Defect::ReadersExcludeReaders => true,
            Defect::WriterAdmitsReaders => held == Lock::Read && lock == Lock::Write,
            Defect::ReadersAdmitWriters => held == Lock::Write,
            Defect::LocksExcludeNothing => false,
            _ => held == Lock::Write || lock == Lock::Write,
        };
        let others = contents.locks.iter().filter(|(holder, _)| *holder != self.handle);
        let refused = others.into_iter().any(|(_, held)| excludes(*held));
        if refused && !self.has(Defect::RefusedChangeDropsTheLock) {
            let kind = match self.defect {
                Defect::RefusesInOtherWords => io::ErrorKind::WouldBlock,
                _ => io::ErrorKind::ResourceBusy,
            };
            return Err(io::Error::new(kind, "another handle holds a lock"));
        }
        if self.has(Defect::SecondLockIsIgnored)
            && contents.locks.iter().any(|(holder, _)| *holder == self.handle)
        {
            return Ok(());
        }
        contents.locks.retain(|(holder, _)| *holder != self.handle);
        if refused {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        if lock != Lock::None || self.has(Defect::NoLockIsOne) {
            contents.locks.push((self.handle, lock));
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        let alignment = if self.has(Defect::OddAlignment) { 3 } else { 1 };
        Limits { alignment, max_transfer: 1 << 20 }
    }
}

/// A directory.
#[derive(Debug)]
pub(crate) struct MemoryDirectory {
    files: Mutex<BTreeMap<String, Arc<Mutex<Contents>>>>,
    defect: Defect,
}

impl MemoryDirectory {
    /// An empty one whose files have the defect too.
    pub(crate) fn new(defect: Defect) -> Self {
        Self { files: Mutex::default(), defect }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Contents>>>> {
        self.files.lock().expect("no panic inside")
    }
}

fn copy_of(contents: &Mutex<Contents>) -> Arc<Mutex<Contents>> {
    let contents = contents.lock().expect("no panic inside");
    let (bytes, length) = (contents.bytes.clone(), contents.length);
    Arc::new(Mutex::new(Contents { bytes, length, ..Contents::default() }))
}

#[async_trait]
impl Directory for MemoryDirectory {
    type File = MemoryFile;

    async fn open(&self, name: &str, access: Access) -> io::Result<MemoryFile> {
        if self.defect == Defect::OpenCreates && access == Access::Write {
            self.files().entry(name.to_owned()).or_default();
        }
        let found = self.files().get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        let contents =
            if self.defect == Defect::HandlesAreCopies { copy_of(&found) } else { found };
        Ok(MemoryFile::new(contents, self.defect))
    }

    async fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut files = self.files();
        if files.contains_key(name) && self.defect != Defect::CreateReplaces {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let contents = Arc::<Mutex<Contents>>::default();
        if self.defect == Defect::CreatedFilesHaveBytes {
            contents.lock().expect("no panic inside").resize(1, Defect::Nothing);
        }
        files.insert(name.to_owned(), Arc::clone(&contents));
        Ok(MemoryFile::new(contents, self.defect))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        match self.defect {
            Defect::RenameKeepsTheOldName => _ = files.insert(to.to_owned(), file),
            Defect::RenameRefusesATakenName if files.contains_key(to) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Defect::RenameCopies => {
                files.remove(from);
                files.insert(to.to_owned(), copy_of(&file));
            }
            _ => {
                files.remove(from);
                files.insert(to.to_owned(), file);
            }
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.files().remove(name);
        match removed {
            Some(file) if self.defect == Defect::RemoveEmptiesTheFile => {
                file.lock().expect("no panic inside").resize(0, Defect::Nothing);
            }
            None if self.defect != Defect::RemoveFindsAnything => {
                return Err(io::ErrorKind::NotFound.into());
            }
            _ => {}
        }
        Ok(())
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = self.files().keys().cloned().collect();
        match self.defect {
            Defect::ListIsCut => names.truncate(256),
            Defect::ListRepeats => names.extend(names.first().cloned()),
            _ => {}
        }
        Ok(names)
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
