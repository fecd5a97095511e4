//! `--aio`: how the bytes of an image's files are moved.

use clap::ValueEnum;
use qbm_io_std::StdDirectory;
use qbm_io_uring::UringDirectory;

/// How the bytes of an image's files are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Aio {
    /// By threads that wait, through the page cache
    #[default]
    #[value(alias = "native")]
    Threads,
    /// Past the page cache, several at a time by rings of the kernel; where it has none, by threads
    #[value(name = "io_uring")]
    IoUring,
}

impl Aio {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::IoUring => "io_uring",
        }
    }

    /// `directory`, with files that are used in this way. Says so where it has to be another.
    pub fn over(self, directory: StdDirectory) -> UringDirectory {
        match self {
            Self::Threads => UringDirectory::without_rings(directory),
            Self::IoUring => UringDirectory::new(directory.clone()).unwrap_or_else(|error| {
                eprintln!("qbm: warning: {error}; it goes on as with --aio=threads");
                UringDirectory::without_rings(directory)
            }),
        }
    }
}
