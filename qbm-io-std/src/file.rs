//! A file or block device as a storage.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use qbm_core::{
    Access, BlockStatus, Buffer, ByteRange, Identity, Limits, Lock, Persist, Storage, Unmap,
};
use rustix::fs::{Advice, OFlags, SeekFrom, fcntl_getfl};
use rustix::io::Errno;

use crate::durable::Durable;
use crate::gate::open;
use crate::lock::Locks;
use crate::{transfer, zeroes};

/// An open regular file or block device.
///
/// Whatever it was opened by, it is used by its descriptor alone: no name is resolved again.
#[derive(Debug)]
pub struct StdFile {
    file: File,
    kind: Kind,
    durable: Durable,
    locks: Locks,
    fast_zeroes: zeroes::Fast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regular,
    Block,
}

impl StdFile {
    /// Opens a file that the operator named, on the command line for instance: symbolic links are
    /// followed. Never blocks, whatever it is.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] unless it is a regular file or a block device, and any
    /// error of opening it.
    pub fn open_operator(path: &Path, access: Access) -> io::Result<Self> {
        Self::from_file(open::operator(path, access)?)
    }

    /// Takes a file that is open already.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] unless it is a regular file or a block device, and
    /// [`io::ErrorKind::InvalidInput`] if it is open for appending.
    pub fn from_file(file: File) -> io::Result<Self> {
        if fcntl_getfl(&file)?.contains(OFlags::APPEND) {
            // Linux would write at the end, whatever offset is asked for.
            let what = "the file is open for appending, and must not be";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let kind = file.metadata()?.file_type();
        let kind = if kind.is_file() {
            Kind::Regular
        } else if kind.is_block_device() {
            Kind::Block
        } else {
            let what = format!("it is {}, not a file or block device", describe(kind));
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        };
        let (durable, locks, fast_zeroes) = Default::default();
        Ok(Self { file, kind, durable, locks, fast_zeroes })
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.kind == Kind::Block
    }

    /// Whether a sync of it has failed. A backend that syncs it by other calls than these keeps it.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    fn length(&self) -> io::Result<u64> {
        match self.kind {
            Kind::Regular => Ok(self.file.metadata()?.len()),
            // Nobody uses the position of the file: all transfers name their offsets.
            Kind::Block => Ok(rustix::fs::seek(&self.file, SeekFrom::End(0))?),
        }
    }

    /// The first byte from `offset` on that may hold data, or that lies in a hole.
    fn find(&self, what: fn(u64) -> SeekFrom, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.file, what(offset)) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for StdFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for StdFile {
    fn drop(&mut self) {
        self.locks.release(&self.file);
    }
}

impl Storage for StdFile {
    async fn read_at(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        transfer::read(&mut buffer, offset, |part, offset| self.file.read_at(part, offset))?;
        Ok(buffer)
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        match persist {
            Persist::Later => {
                transfer::write(&buffer, offset, |part, offset| self.file.write_at(part, offset))?;
            }
            Persist::Now => self.durable.write(&self.file, &buffer, offset)?,
        }
        Ok(buffer)
    }

    async fn write_zeroes(&self, range: ByteRange, unmap: Unmap) -> io::Result<()> {
        let length = self.length()?;
        zeroes::write_zeroes(&self.file, length, range.clip(length), unmap)
    }

    async fn zeroes_fast(&self, unmap: Unmap) -> bool {
        // A block device may write them itself, and does not say so.
        let known = unmap == Unmap::Allowed && self.kind == Kind::Regular;
        let length = self.length().ok().filter(|_| known);
        length.is_some_and(|length| self.fast_zeroes.has(&self.file, length))
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        let length = self.length()?;
        zeroes::discard(&self.file, length, range.clip(length))
    }

    async fn sync(&self) -> io::Result<()> {
        self.durable.sync(&self.file)
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        // Linux drops the clean pages of the file, and after a good sync all are clean, also those
        // that it could not write: see posix_fadvise(2) and fsync(2).
        Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    async fn settle(&self) {
        // An operation ends within the first poll of its future: none is left to wait for.
    }

    async fn len(&self) -> io::Result<u64> {
        self.length()
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        match self.kind {
            Kind::Regular => self.file.set_len(length),
            Kind::Block if self.length()? == length => Ok(()),
            Kind::Block => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the length of a block device cannot be changed from here",
            )),
        }
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        let hole =
            |end: u64| BlockStatus { length: end.min(range.end()) - range.start(), data: false };
        let data = |end: u64| BlockStatus { data: true, ..hole(end) };
        if range.is_empty() {
            return Ok(data(range.end()));
        }
        let next_data = match self.find(SeekFrom::Data, range.start()) {
            Ok(found) => found,
            // A file system that does not know its holes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Ok(data(range.end()));
            }
            Err(error) => return Err(error),
        };
        match next_data {
            None => Ok(hole(range.end())),
            Some(next) if next > range.start() => Ok(hole(next)),
            Some(_) => {
                // Where another thread cuts the file meanwhile, the end of the range will do.
                let end = self.find(SeekFrom::Hole, range.start())?;
                Ok(data(end.filter(|end| *end > range.start()).unwrap_or(range.end())))
            }
        }
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        let metadata = self.file.metadata()?;
        let size = self.length()?;
        Ok(Some(match self.kind {
            Kind::Block => Identity { device: metadata.rdev(), inode: 0, size, modified_ns: None },
            Kind::Regular => {
                let seconds = metadata.mtime().checked_mul(1_000_000_000);
                let modified_ns = seconds.and_then(|ns| ns.checked_add(metadata.mtime_nsec()));
                let (device, inode) = (metadata.dev(), metadata.ino());
                Identity { device, inode, size, modified_ns }
            }
        }))
    }

    async fn lock(&self, lock: Lock) -> io::Result<()> {
        self.locks.take(&self.file, lock)
    }

    fn limits(&self) -> Limits {
        // The page cache works by pages, and larger transfers are not faster.
        Limits { alignment: 4096, max_transfer: 2 << 20 }
    }
}

/// What a file that cannot be used is.
pub(crate) fn describe(kind: std::fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a file"
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;

    #[test]
    fn a_file_open_for_appending_is_refused() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = File::options().append(true).open(path.path()).unwrap();
        let error = StdFile::from_file(file).unwrap_err();
        assert_eq!(error.to_string(), "the file is open for appending, and must not be");
    }

    #[test]
    fn a_file_that_is_open_already_is_used_by_its_descriptor() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = StdFile::from_file(path.reopen().unwrap()).unwrap();
        let name = path.path().to_owned();
        drop(path);
        assert!(!name.exists());
        block_on(file.write_at(3, Buffer::from_slice(b"abc"), Persist::Now)).unwrap();
        assert_eq!(block_on(file.len()).unwrap(), 6);
    }

    #[test]
    fn a_lock_ends_with_its_handle_also_while_a_child_has_a_duplicate() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || StdFile::open_operator(path.path(), Access::Write).unwrap();
        let first = open();
        block_on(first.lock(Lock::Write)).unwrap();
        let _inherited = first.file.try_clone().unwrap();
        assert!(block_on(open().lock(Lock::Write)).is_err());
        drop(first);
        block_on(open().lock(Lock::Write)).unwrap();
    }
}
