//! The contract between the core and whatever keeps the names of an image's files.

use std::fmt;
use std::io;

use async_trait::async_trait;

use crate::{Buffer, Error, Persist, Storage};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only; works on read-only media.
    Read,
    /// Reading and writing.
    Write,
}

/// The names beside a descriptor, and the files behind them.
///
/// Names are relative to the directory unless the backend's operator allows others: which names
/// may be opened is the backend's decision, and a refusal is [`io::ErrorKind::PermissionDenied`]
/// with a text that says what would allow it. Calls are rare, so their futures are boxed.
///
/// # Contract
///
/// * **Durability.** Creations, renames and removals are durable once a [`sync`](Self::sync)
///   begun after they returned has returned `Ok`. Until then a crash may undo any of them.
/// * **Atomicity.** A rename happens wholly or not at all, also in a crash.
/// * **Contents.** Syncing the directory says nothing about the bytes in its files.
#[async_trait]
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// The files in it.
    type File: Storage;

    /// Opens the existing file `name`.
    async fn open(&self, name: &str, access: Access) -> io::Result<Self::File>;

    /// Creates the file `name`, empty, readable and writable by its owner alone.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken, by whatever.
    async fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Gives the file `from` the name `to`, and drops the file that had it.
    async fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the name `name`; handles to its file stay valid.
    async fn remove(&self, name: &str) -> io::Result<()>;

    /// All names in it, in no particular order.
    async fn list(&self) -> io::Result<Vec<String>>;

    /// Makes all names durable that were created, changed or removed when the call began.
    async fn sync(&self) -> io::Result<()>;
}

/// Reads the whole file, at most `limit` bytes of it.
///
/// # Errors
///
/// [`io::ErrorKind::FileTooLarge`] if it is longer than `limit`, without reading any of it.
pub async fn read_whole<F: Storage>(file: &F, limit: usize) -> io::Result<Vec<u8>> {
    let length = file.len().await?;
    match usize::try_from(length) {
        Ok(length) if length <= limit => {
            Ok(file.read_at(0, Buffer::zeroed(length)).await?.to_vec())
        }
        _ => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{length} bytes, and at most {limit} are read"),
        )),
    }
}

/// Opens the file `name`, if there is one.
///
/// # Errors
///
/// Those of [`Directory::open`], but for a name that nothing has.
pub(crate) async fn open_if_there<D: Directory>(
    directory: &D,
    name: &str,
    access: Access,
) -> io::Result<Option<D::File>> {
    match directory.open(name, access).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Refuses a name that something has already.
///
/// # Errors
///
/// [`Error::Unusable`] if so, and any error of looking.
pub(crate) async fn refuse_taken<D: Directory>(directory: &D, name: &str) -> crate::Result<()> {
    let found = open_if_there(directory, name, Access::Read).await;
    match found.map_err(Error::io(name, "create"))? {
        None => Ok(()),
        Some(_) => Err(Error::unusable(name, "it exists already")),
    }
}

/// Writes a new file `temporary` and makes it durable under its final name `name`.
///
/// This is the one commit point of an image: before the rename is durable a crash leaves the old
/// contents of `name`, after it the new ones, and never a mixture.
///
/// # Errors
///
/// Any error of the directory. The old contents are then still in place, unless it was the last
/// sync that failed: then either may be found after a crash.
pub async fn replace<D: Directory>(
    directory: &D,
    temporary: &str,
    name: &str,
    contents: &[u8],
) -> io::Result<()> {
    let file = directory.create(temporary).await?;
    let written = async {
        file.write_at(0, Buffer::from_slice(contents), Persist::Later).await?;
        // The bytes must be durable before the name is theirs: a crash in between leaves the old
        // file under the name, and the new one an orphan.
        file.sync().await?;
        directory.rename(temporary, name).await
    };
    if let Err(error) = written.await {
        // Best effort: the file was never named, and `check` finds it as an orphan.
        let _cleanup = directory.remove(temporary).await;
        return Err(error);
    }
    // A crash before this sync may bring the old name back; whoever relies on the new one waits.
    directory.sync().await
}
