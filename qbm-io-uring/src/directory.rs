//! A directory whose files are read and written by rings.

use std::io;

use async_trait::async_trait;
use qbm_core::{Access, Directory};
use qbm_io_std::{StdDirectory, StdFile};

use crate::{UringFile, pool};

/// The directory of a descriptor. Its names are those of the [`StdDirectory`] that it wraps.
#[derive(Clone, Debug)]
pub struct UringDirectory {
    std: StdDirectory,
    rings: bool,
}

impl UringDirectory {
    /// Lets rings read and write the files of `std`.
    ///
    /// # Errors
    ///
    /// If the kernel has no `io_uring` for this process; the text says why.
    pub fn new(std: StdDirectory) -> io::Result<Self> {
        match pool::own() {
            Ok(_) => Ok(Self { std, rings: true }),
            Err(error) => Err(io::Error::new(error.kind(), why(&error))),
        }
    }

    /// Leaves the files of `std` as they are: all is done by system calls that block. For programs
    /// that choose when they run.
    pub fn without_rings(std: StdDirectory) -> Self {
        Self { std, rings: false }
    }

    /// `file`, which somebody else has opened, as a file of this directory.
    pub fn adopt(&self, file: StdFile) -> UringFile {
        if self.rings { UringFile::new(file) } else { UringFile::without_rings(file) }
    }
}

/// Why there is no ring, in words that an operator can act upon.
fn why(error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::Unsupported => "this kernel has none",
        io::ErrorKind::PermissionDenied => {
            "it is forbidden here, by the sysctl kernel.io_uring_disabled or by a container's seccomp filter"
        }
        io::ErrorKind::InvalidInput => "this kernel's is too old",
        _ => return format!("io_uring cannot be used: {error}"),
    };
    format!("io_uring cannot be used: {reason}")
}

#[async_trait]
impl Directory for UringDirectory {
    type File = UringFile;

    async fn open(&self, name: &str, access: Access) -> io::Result<UringFile> {
        Ok(self.adopt(self.std.open(name, access).await?))
    }

    async fn create(&self, name: &str) -> io::Result<UringFile> {
        Ok(self.adopt(self.std.create(name).await?))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.std.rename(from, to).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.std.remove(name).await
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        self.std.list().await
    }

    async fn sync(&self) -> io::Result<()> {
        self.std.sync().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_refuses_is_explained() {
        let text = |number| why(&io::Error::from_raw_os_error(number));
        let start = "io_uring cannot be used: ";
        assert_eq!(text(38), format!("{start}this kernel has none"));
        assert!(text(1).starts_with(&format!("{start}it is forbidden here, by the sysctl ")));
        assert_eq!(text(22), format!("{start}this kernel's is too old"));
        assert_eq!(text(24), format!("{start}Too many open files (os error 24)"));
    }
}
