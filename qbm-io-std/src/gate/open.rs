//! Opening by name: beneath a directory for a descriptor, anywhere for the operator.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use qbm_core::Access;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use super::refused;
use crate::file::describe;

/// Never wait for the other end of a FIFO or for a terminal, and never become its session's.
const CAREFUL: OFlags =
    OFlags::CLOEXEC.union(OFlags::NOCTTY).union(OFlags::NONBLOCK).union(OFlags::LARGEFILE);

/// Which files may be opened beneath a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Regular files.
    Regular,
    /// Block devices too.
    RegularOrBlock,
}

/// Opens `name`, which no symbolic link may be part of, beneath `directory`.
pub(crate) fn beneath(
    directory: BorrowedFd<'_>,
    name: &Path,
    access: Access,
    kinds: Kinds,
) -> io::Result<File> {
    let flags = mode_of(access) | CAREFUL | OFlags::NOFOLLOW;
    let file = File::from(resolve(directory, name, flags)?);
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    let usable = kind.is_file() || kind.is_block_device() && kinds == Kinds::RegularOrBlock;
    if !usable {
        return Err(unusable(describe(kind)));
    }
    let names = metadata.nlink();
    if access == Access::Write && kind.is_file() && names > 1 {
        return Err(refused(format!(
            "the file has {names} names (hard links), and writing to it would change the others; \
             copy it, or name it on the command line"
        )));
    }
    wait_again(&file)?;
    Ok(file)
}

/// Creates `name` beneath `directory`, where nothing has that name.
pub(crate) fn create(directory: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(resolve(directory, name, flags | OFlags::LARGEFILE)?))
}

/// Opens the directory `name` beneath `directory`, to change and sync names in it.
pub(crate) fn directory_beneath(directory: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    // Without `O_NOFOLLOW`, which would call a symbolic link no directory: `resolve` refuses it.
    resolve(directory, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
}

/// Opens a directory that the operator named.
pub(crate) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))?)
}

/// Opens a regular file or block device that the operator named; symbolic links are followed.
pub(crate) fn operator(path: &Path, access: Access) -> io::Result<File> {
    let flags = mode_of(access) | CAREFUL;
    let file = match retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty())) {
        Ok(file) => File::from(file),
        Err(Errno::ISDIR) => return Err(unusable("a directory")),
        Err(Errno::NXIO) => {
            return Err(unusable(kind_without_opening(CWD, path, OFlags::empty())));
        }
        Err(errno) => return Err(errno.into()),
    };
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(unusable(describe(kind)));
    }
    wait_again(&file)?;
    Ok(file)
}

fn mode_of(access: Access) -> OFlags {
    match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::RDWR,
    }
}

/// The one call that resolves a name from a descriptor.
fn resolve(directory: BorrowedFd<'_>, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    let opened = retry_on_intr(|| rustix::fs::openat2(directory, name, flags, mode, confined));
    opened.map_err(|errno| match errno {
        Errno::LOOP => refused(
            "a symbolic link is part of the name, and none is followed; write the absolute name \
             that it leads to and allow that",
        ),
        Errno::XDEV => refused("the name leads out of the image's directory"),
        Errno::ISDIR => unusable("a directory"),
        // A socket, or a device that has nothing behind it.
        Errno::NXIO => unusable(kind_without_opening(directory, name, OFlags::NOFOLLOW)),
        Errno::NOSYS => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel cannot open names safely (openat2, Linux 5.6)",
        ),
        errno => errno.into(),
    })
}

/// What the file is that cannot be opened for want of somebody at its other end.
fn kind_without_opening(directory: impl AsFd, name: &Path, follow: OFlags) -> &'static str {
    // Only for the text of an error, so it does not matter if the name means something else now.
    let file = rustix::fs::openat(directory, name, OFlags::PATH | follow, Mode::empty());
    let kind = file.map_err(io::Error::from).and_then(|file| File::from(file).metadata());
    kind.map_or("gone", |metadata| describe(metadata.file_type()))
}

/// Refuses a file of the kind `what`.
fn unusable(what: &str) -> io::Error {
    if what == "a block device" {
        return refused(
            "it is a block device; its absolute name is possible where that is allowed",
        );
    }
    refused(format!("it is {what}, not a file or block device"))
}

/// Takes `O_NONBLOCK` off, which was there for the opening alone.
fn wait_again(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::NONBLOCK)?)
}
