//! A directory of the file system, with the gate in front of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use qbm_core::{Access, Directory};
use rustix::fs::{AtFlags, Dir};

use crate::StdFile;
use crate::durable::Durable;
use crate::gate::name::{self, Name};
use crate::gate::open::{self, Kinds};
use crate::gate::{GatePolicy, refused};

/// The directory of a descriptor.
///
/// It is opened once: all names count from the directory that it was then, also when that is
/// renamed or replaced. Names in its subdirectories may be used; changes there are durable at
/// once. Names that are not UTF-8 are not seen. Clones are the same directory.
#[derive(Clone, Debug)]
pub struct StdDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: File,
    policy: GatePolicy,
    durable: Durable,
}

/// A name that can be changed, and the directory that it is in.
struct Place<'a> {
    /// `None`: directly in the directory.
    parent: Option<File>,
    name: &'a str,
}

impl StdDirectory {
    /// Opens the directory `path`, which the operator named: symbolic links are followed.
    ///
    /// # Errors
    ///
    /// If it is not there, not a directory, or not to be read by this user.
    pub fn open(path: &Path, policy: GatePolicy) -> io::Result<Self> {
        let directory = File::from(open::directory(path)?);
        Ok(Self { inner: Arc::new(Inner { directory, policy, durable: Durable::default() }) })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.directory.as_fd()
    }

    fn open_absolute(&self, name: &Path, access: Access) -> io::Result<File> {
        let policy = &self.inner.policy;
        let Some(entry) = policy.entry_for(name) else {
            let advice = policy.advice(name);
            return Err(refused(format!("it is not in the image's directory; {advice}")));
        };
        match name.strip_prefix(entry) {
            Ok(rest) if !rest.as_os_str().is_empty() => {
                let directory = open::directory(entry)?;
                open::beneath(directory.as_fd(), rest, access, Kinds::RegularOrBlock)
            }
            _ => open::operator(name, access),
        }
    }

    fn place<'a>(&self, name: &'a str) -> io::Result<Place<'a>> {
        let Name::Beneath(name) = name::parse(name)? else {
            let why = "only names in the image's directory are created, renamed or removed";
            return Err(refused(why));
        };
        Ok(match name.rsplit_once('/') {
            None => Place { parent: None, name },
            Some((parent, name)) => {
                let parent = open::directory_beneath(self.fd(), Path::new(parent))?;
                Place { parent: Some(File::from(parent)), name }
            }
        })
    }

    fn parent<'a>(&'a self, place: &'a Place<'_>) -> BorrowedFd<'a> {
        place.parent.as_ref().map_or(self.fd(), AsFd::as_fd)
    }
}

impl Place<'_> {
    /// [`Directory::sync`] reaches the directory itself alone, so its subdirectories are synced
    /// with every change.
    fn changed(&self) -> io::Result<()> {
        self.parent.as_ref().map_or(Ok(()), File::sync_all)
    }
}

#[async_trait]
impl Directory for StdDirectory {
    type File = StdFile;

    async fn open(&self, name: &str, access: Access) -> io::Result<StdFile> {
        StdFile::from_file(match name::parse(name)? {
            Name::Beneath(name) => {
                open::beneath(self.fd(), Path::new(name), access, Kinds::Regular)?
            }
            Name::Absolute(name) => self.open_absolute(name, access)?,
        })
    }

    async fn create(&self, name: &str) -> io::Result<StdFile> {
        let place = self.place(name)?;
        let file = open::create(self.parent(&place), Path::new(place.name))?;
        place.changed()?;
        StdFile::from_file(file)
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        rustix::fs::renameat(self.parent(&from), from.name, self.parent(&to), to.name)?;
        // The new name first: a crash in between leaves the file two names rather than none.
        to.changed()?;
        from.changed()
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let place = self.place(name)?;
        rustix::fs::unlinkat(self.parent(&place), place.name, AtFlags::empty())?;
        place.changed()
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.fd())? {
            let name = entry?.file_name().to_owned();
            names.extend(name.into_string().ok().filter(|name| name != "." && name != ".."));
        }
        Ok(names)
    }

    async fn sync(&self) -> io::Result<()> {
        self.inner.durable.sync_names(&self.inner.directory)
    }
}

/// The directory of the descriptor at `path`, and its name there.
///
/// The operator named it, so where it is a symbolic link, it is the one that the link leads to:
/// the names in a descriptor count from where it really is.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] if the path does not end in a name, or not in one of UTF-8.
pub fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let path = if path.is_symlink() { path.canonicalize()? } else { path.to_owned() };
    let name = path.file_name().ok_or_else(|| invalid("the path does not end in a file name"))?;
    let name = name.to_str().ok_or_else(|| invalid("the name is not UTF-8"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), name.to_owned()))
}
