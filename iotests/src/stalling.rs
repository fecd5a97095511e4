//! A file system that answers when it is told to: a disk that has stopped, as far as a program can
//! tell.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use tempfile::TempDir;

/// The one file, which holds zeroes and forgets what is written to it.
pub const FILE: &str = "disk.raw";

const ROOT: INodeNo = INodeNo::ROOT;
const DISK: INodeNo = INodeNo(2);

/// Nothing is kept by the kernel, so that every request comes here.
const NO_TIME: Duration = Duration::ZERO;

/// How long to wait for a request to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request to open the file, which waits until this is [answered](Self::answer).
#[derive(Debug)]
pub struct Waiting(ReplyOpen);

impl Waiting {
    /// Lets the file be opened.
    pub fn answer(self) {
        self.0.opened(FileHandle(0), FopenFlags::empty());
    }
}

/// A mounted file system with one file, each open of which waits.
pub struct Stalling {
    // Before the folder that it is mounted on.
    session: Option<BackgroundSession>,
    waiting: Receiver<Waiting>,
    folder: TempDir,
}

impl Stalling {
    /// Mounts it on a new folder; the file has `size` bytes.
    ///
    /// # Panics
    ///
    /// If it cannot be mounted, such as for lack of root's rights.
    pub fn mount(size: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (sender, waiting) = channel();
        let disk = Disk { size, waiting: Mutex::new(sender) };
        let session = fuser::spawn_mount(disk, folder.path(), &Config::default());
        let session = session.unwrap_or_else(|error| {
            panic!("this test needs root and /dev/fuse, to mount a file system: {error}")
        });
        Self { session: Some(session), waiting, folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The next open, once somebody asks for it.
    ///
    /// # Panics
    ///
    /// If nobody does for 30 seconds.
    pub fn next(&self) -> Waiting {
        self.waiting.recv_timeout(PATIENCE).expect("somebody opens the file")
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // A failed test has left it in use: then it stays until the process ends.
            let _unmounted = session.umount_and_join();
        }
    }
}

/// What is mounted.
struct Disk {
    size: u64,
    waiting: Mutex<Sender<Waiting>>,
}

impl Disk {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            ROOT => (FileType::Directory, 0o755, 0),
            DISK => (FileType::RegularFile, 0o644, self.size),
            _ => return None,
        };
        let time = UNIX_EPOCH;
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(DISK).filter(|_| parent == ROOT && name == FILE) {
            Some(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&NO_TIME, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(unheard) = waiting.send(Waiting(reply)) {
            // The test is over.
            unheard.0.0.error(Errno::EIO);
        }
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&vec![0; usize::try_from(size).expect("a small request")]);
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.written(u32::try_from(data.len()).expect("a small request"));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }
}
