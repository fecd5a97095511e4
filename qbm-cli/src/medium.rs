//! What holds bytes: files, and the disks of NBD servers.
//!
//! A server is only ever reached because the operator has named it: on the command line, or in an allow
//! file for a descriptor to name. A descriptor alone opens no connection.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use qbm_core::{
    Access, BlockStatus, Buffer, ByteRange, Directory, Identity, Limits, Lock, Persist, Storage,
    Unmap,
};
use qbm_io_std::{GatePolicy, StdDirectory, StdFile};
use qbm_io_uring::{UringDirectory, UringFile};
use qbm_nbd::{NbdStorage, NbdUri};

use crate::aio::Aio;

/// A file or block device, or the disk of a server.
#[derive(Debug)]
pub enum Medium {
    /// A file or block device.
    File(UringFile),
    /// The disk of a server.
    Server(Box<NbdStorage>),
}

impl Medium {
    /// Opens what the operator named: a path, or the address of a server.
    ///
    /// # Errors
    ///
    /// Those of [`StdFile::open_operator`] and [`NbdStorage::connect`].
    pub fn open_operator(path: &Path, access: Access) -> io::Result<Self> {
        match address(path) {
            Some(address) => connect(address, access),
            None => {
                StdFile::open_operator(path, access).map(UringFile::without_rings).map(Self::File)
            }
        }
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        matches!(self, Self::File(file) if file.is_block_device())
    }
}

/// `path` as the address of a server, if it is meant to be one.
pub fn address(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| NbdUri::is_meant(text))
}

fn connect(address: &str, access: Access) -> io::Result<Medium> {
    let uri: NbdUri = address
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{error}")))?;
    let disk = NbdStorage::connect(&uri, access)?;
    Ok(Medium::Server(Box::new(disk)))
}

/// The same for whatever the medium is.
macro_rules! whichever {
    ($medium:expr, $storage:ident => $done:expr) => {
        match $medium {
            Medium::File($storage) => $done,
            Medium::Server($storage) => $done,
        }
    };
}

impl Storage for Medium {
    async fn read_at(&self, offset: u64, buffer: Buffer) -> io::Result<Buffer> {
        whichever!(self, it => it.read_at(offset, buffer).await)
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        whichever!(self, it => it.write_at(offset, buffer, persist).await)
    }

    async fn write_zeroes(&self, range: ByteRange, unmap: Unmap) -> io::Result<()> {
        whichever!(self, it => it.write_zeroes(range, unmap).await)
    }

    async fn zeroes_fast(&self, unmap: Unmap) -> bool {
        whichever!(self, it => it.zeroes_fast(unmap).await)
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        whichever!(self, it => it.discard(range).await)
    }

    async fn sync(&self) -> io::Result<()> {
        whichever!(self, it => it.sync().await)
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        whichever!(self, it => it.invalidate_cache().await)
    }

    async fn settle(&self) {
        whichever!(self, it => it.settle().await);
    }

    async fn len(&self) -> io::Result<u64> {
        whichever!(self, it => it.len().await)
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        whichever!(self, it => it.set_len(length).await)
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        whichever!(self, it => it.block_status(range).await)
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        whichever!(self, it => it.identity().await)
    }

    async fn lock(&self, lock: Lock) -> io::Result<()> {
        whichever!(self, it => it.lock(lock).await)
    }

    fn limits(&self) -> Limits {
        whichever!(self, it => it.limits())
    }
}

/// The directory of a descriptor, which may also name the disks of servers that the operator allows.
#[derive(Clone, Debug)]
pub struct Folder {
    files: UringDirectory,
    policy: GatePolicy,
}

impl Folder {
    /// Opens the directory `path`, whose files are used by `aio`.
    ///
    /// # Errors
    ///
    /// Those of [`StdDirectory::open`].
    pub fn open(path: &Path, policy: GatePolicy, aio: Aio) -> io::Result<Self> {
        Ok(Self { files: aio.over(StdDirectory::open(path, policy.clone())?), policy })
    }

    /// Opens what the operator named, to be used as the files of this directory are.
    ///
    /// # Errors
    ///
    /// As for [`Medium::open_operator`].
    pub fn open_operator(&self, path: &Path, access: Access) -> io::Result<Medium> {
        match address(path) {
            Some(address) => connect(address, access),
            None => {
                let file = StdFile::open_operator(path, access)?;
                Ok(Medium::File(self.files.adopt(file)))
            }
        }
    }
}

#[async_trait]
impl Directory for Folder {
    type File = Medium;

    async fn open(&self, name: &str, access: Access) -> io::Result<Medium> {
        if NbdUri::is_meant(name) {
            if self.policy.allows_address(name) {
                return connect(name, access);
            }
            let what =
                "a descriptor alone opens no connection; give it as --data-file, or allow it";
            let why = format!("{what} by --allow-path '{name}'");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        self.files.open(name, access).await.map(Medium::File)
    }

    async fn create(&self, name: &str) -> io::Result<Medium> {
        self.files.create(name).await.map(Medium::File)
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name).await
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        self.files.list().await
    }

    async fn sync(&self) -> io::Result<()> {
        self.files.sync().await
    }
}
