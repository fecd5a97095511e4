//! The disks that the command line names: images and raw files.
//!
//! What a file is, the command line says: it is never guessed from its name or its contents.

use std::path::Path;

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures_executor::block_on;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Disk, Lock, Storage};

use crate::open::{DiskFile, FileDirectory, FileImage, GateArgs};

/// How a disk is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiskFormat {
    /// The bytes of the disk and nothing else
    Raw,
    /// An image: a descriptor, and what it names
    Qbm,
}

/// The formats of the disk to read and of the one to write, and what may be opened.
#[derive(Args, Debug)]
pub struct CopyArgs {
    /// The format of the disk to read
    #[arg(short = 'f', value_enum, value_name = "FORMAT", default_value = "qbm")]
    pub format: DiskFormat,
    /// The format of the disk to write
    #[arg(short = 'O', value_enum, value_name = "FORMAT", default_value = "raw")]
    pub output_format: DiskFormat,
    /// Read although a program has the disk open
    #[arg(short = 'U', long)]
    force_share: bool,
    /// Which other files may be opened.
    #[command(flatten)]
    pub gate: GateArgs,
}

impl CopyArgs {
    /// Opens the disk at `path`, to be read.
    ///
    /// # Errors
    ///
    /// As for [`OpenDisk::open`].
    pub fn source(&self, path: &Path) -> anyhow::Result<OpenDisk> {
        OpenDisk::open(&self.gate, (path, self.format), Access::Read, self.force_share)
    }
}

/// A disk that is open.
#[derive(Debug)]
pub enum OpenDisk {
    /// A raw file or device.
    Raw {
        /// Its path, for messages.
        name: String,
        /// Itself.
        file: DiskFile,
        /// Its length in bytes.
        size: u64,
    },
    /// An image.
    Image(Box<FileImage>),
}

impl OpenDisk {
    /// Opens the disk at `path` for `access`; `shared` reads it although a program writes to it.
    ///
    /// # Errors
    ///
    /// As for [`Image::open`](qbm_core::Image::open), and any error of the raw file.
    pub fn open(
        gate: &GateArgs,
        (path, format): (&Path, DiskFormat),
        access: Access,
        shared: bool,
    ) -> anyhow::Result<Self> {
        if format == DiskFormat::Qbm {
            let options = OpenOptions { shared, ..OpenOptions::new(access) };
            return Ok(Self::Image(Box::new(gate.image(path, options)?)));
        }
        let name = path.display().to_string();
        let file = DiskFile::open_operator(path, access).with_context(|| name.clone())?;
        let lock = match access {
            Access::Read => Lock::Read,
            Access::Write => Lock::Write,
        };
        if !shared {
            block_on(file.lock(lock)).with_context(|| name.clone())?;
        }
        let size = block_on(file.len()).with_context(|| name.clone())?;
        Ok(Self::Raw { name, file, size })
    }

    /// The disk, to be read and written.
    pub fn disk(&self) -> Disk<'_, FileDirectory> {
        match self {
            Self::Raw { name, file, size } => Disk::File { name, file, size: *size },
            Self::Image(image) => Disk::Image(image),
        }
    }

    /// The name of the file that has what is at `depth`, from 0 at the top.
    pub fn layer_name(&self, depth: usize) -> &str {
        match self {
            Self::Raw { name, .. } => name,
            Self::Image(image) => image.layer_name(depth),
        }
    }

    /// Closes it cleanly.
    ///
    /// # Errors
    ///
    /// As for [`Image::close`](qbm_core::Image::close).
    pub fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Raw { .. } => Ok(()),
            Self::Image(image) => Ok(block_on(image.close())?),
        }
    }
}
