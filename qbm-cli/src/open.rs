//! Opening what the command line names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use futures_executor::block_on;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Error, Host, Image};
use qbm_io_std::{GatePolicy, StdHost, split};

use crate::aio::Aio;
use crate::disk::{DiskFormat, OpenDisk};
use crate::medium::{Folder, Medium};

/// A directory of files, used in either way of [`Aio`].
pub type FileDirectory = Folder;

/// A file, used in either way of [`Aio`], or the disk of a server.
pub type DiskFile = Medium;

/// An image on files.
pub type FileImage = Image<FileDirectory>;

/// Which files may be opened beyond those in the image's directory.
#[derive(Args, Clone, Debug, Default)]
pub struct GateArgs {
    /// Let descriptors name files in DIR, by their absolute names, or the NBD server at the address DIR
    #[arg(long, value_name = "DIR")]
    pub allow_path: Vec<PathBuf>,
}

/// Options of qemu-img that say how fast, not what: scripts may give them, and nothing comes of it.
#[derive(Args, Clone, Debug)]
pub struct Tuning {
    /// How the disk to write is cached.
    #[arg(short = 't', value_name = "CACHE", hide = true)]
    cache: Option<String>,
    /// How the disks to read are cached.
    #[arg(short = 'T', value_name = "CACHE", hide = true)]
    source_cache: Option<String>,
    /// How many parts are under way at a time.
    #[arg(short = 'm', value_name = "NUMBER", hide = true)]
    parallel: Option<String>,
    /// Whether they may be written in any order.
    #[arg(short = 'W', hide = true)]
    out_of_order: bool,
    /// Say nothing.
    #[arg(short = 'q', hide = true)]
    pub quiet: bool,
}

/// An image, and how it is opened.
#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    /// The image's descriptor
    pub image: PathBuf,
    /// What it is; `map` shows a raw disk too
    #[arg(
        short = 'f',
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "qbm",
        hide = true
    )]
    pub format: DiskFormat,
    /// Take FILE, or the disk of the NBD server at this address, for the data image, whatever the
    /// descriptor names
    #[arg(long, value_name = "FILE")]
    pub data_file: Option<PathBuf>,
    /// Which other files may be opened.
    #[command(flatten)]
    pub gate: GateArgs,
}

/// `error` as it is told: with the name of `image`, where it does not name a file itself.
pub fn naming(image: &Path) -> impl Fn(Error) -> anyhow::Error {
    let image = image.display().to_string();
    move |error| match error {
        Error::Io { .. } | Error::Descriptor { .. } | Error::Unusable { .. } => error.into(),
        _ => anyhow::Error::new(error).context(image.clone()),
    }
}

/// The world around every image of this process.
pub fn host() -> Arc<dyn Host> {
    Arc::new(StdHost)
}

impl GateArgs {
    /// What the command line and the allow files let a descriptor name.
    ///
    /// # Errors
    ///
    /// If a path of the command line cannot be.
    pub fn policy(&self) -> anyhow::Result<GatePolicy> {
        let (mut policy, errors) = GatePolicy::from_allow_files();
        for error in errors {
            eprintln!("qbm: warning: {error}");
        }
        for path in &self.allow_path {
            policy.allow(path).with_context(|| format!("--allow-path {}", path.display()))?;
        }
        Ok(policy)
    }

    /// Opens the directory `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn directory(&self, path: &Path) -> anyhow::Result<FileDirectory> {
        self.directory_by(Aio::default(), path)
    }

    fn directory_by(&self, aio: Aio, path: &Path) -> anyhow::Result<FileDirectory> {
        let directory = Folder::open(path, self.policy()?, aio);
        directory.with_context(|| path.display().to_string())
    }

    /// Opens the image with the descriptor `path`.
    ///
    /// # Errors
    ///
    /// As for [`Image::open`].
    pub fn image(&self, path: &Path, options: OpenOptions<DiskFile>) -> anyhow::Result<FileImage> {
        self.image_by(Aio::default(), path, options)
    }

    /// Opens the image with the descriptor `path`, to be used by `aio`.
    ///
    /// # Errors
    ///
    /// As for [`Image::open`].
    pub fn image_by(
        &self,
        aio: Aio,
        path: &Path,
        options: OpenOptions<DiskFile>,
    ) -> anyhow::Result<FileImage> {
        let (directory, name) = self.place_by(aio, path)?;
        Ok(block_on(Image::open(directory, &name, options, host()))?)
    }

    /// The directory of the descriptor `path`, and its name there.
    ///
    /// # Errors
    ///
    /// If the path has no file name, or its directory cannot be opened.
    pub fn place(&self, path: &Path) -> anyhow::Result<(FileDirectory, String)> {
        self.place_by(Aio::default(), path)
    }

    fn place_by(&self, aio: Aio, path: &Path) -> anyhow::Result<(FileDirectory, String)> {
        let (directory, name) = split(path).with_context(|| path.display().to_string())?;
        Ok((self.directory_by(aio, &directory)?, name))
    }
}

impl ImageArgs {
    /// Opens the image for `access`; `shared` reads it although a program writes to it.
    ///
    /// # Errors
    ///
    /// As for [`Image::open`].
    pub fn open(&self, access: Access, shared: bool) -> anyhow::Result<FileImage> {
        self.open_by(Aio::default(), access, shared)
    }

    /// Opens the image as [`open`](Self::open) does, to be used by `aio`.
    ///
    /// # Errors
    ///
    /// As for [`Image::open`].
    pub fn open_by(&self, aio: Aio, access: Access, shared: bool) -> anyhow::Result<FileImage> {
        self.refuse_raw()?;
        self.open_with(aio, OpenOptions { shared, ..OpenOptions::new(access) })
    }

    /// Opens the image for writing, where the caller holds what is behind it.
    ///
    /// # Errors
    ///
    /// As for [`Image::open`].
    pub fn open_over_held(&self) -> anyhow::Result<FileImage> {
        self.refuse_raw()?;
        let options = OpenOptions { holds_behind: true, ..OpenOptions::new(Access::Write) };
        self.open_with(Aio::default(), options)
    }

    /// Opens the image with the data image that the command line names.
    fn open_with(&self, aio: Aio, mut options: OpenOptions<DiskFile>) -> anyhow::Result<FileImage> {
        let (directory, name) = self.gate.place_by(aio, &self.image)?;
        options.data = self.data_by(|path| directory.open_operator(path, options.access))?;
        Ok(block_on(Image::open(directory, &name, options, host()))?)
    }

    /// The directory of the descriptor, and its name there.
    ///
    /// # Errors
    ///
    /// As for [`GateArgs::place`].
    pub fn place(&self) -> anyhow::Result<(FileDirectory, String)> {
        self.refuse_raw()?;
        self.gate.place(&self.image)
    }

    /// Opens the disk, which may be a raw one, for reading.
    ///
    /// # Errors
    ///
    /// As for [`OpenDisk::open`].
    pub fn open_disk(&self, shared: bool) -> anyhow::Result<OpenDisk> {
        match self.format {
            DiskFormat::Qbm => Ok(OpenDisk::Image(Box::new(self.open(Access::Read, shared)?))),
            DiskFormat::Raw => {
                OpenDisk::open(&self.gate, (&self.image, self.format), Access::Read, shared)
            }
        }
    }

    fn refuse_raw(&self) -> anyhow::Result<()> {
        if self.format == DiskFormat::Raw {
            bail!("{}: this needs an image, and -f raw is none", self.image.display());
        }
        Ok(())
    }

    /// The data image that the command line names.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn data(&self, access: Access) -> anyhow::Result<Option<DiskFile>> {
        self.data_by(|path| Medium::open_operator(path, access))
    }

    fn data_by(
        &self,
        open: impl Fn(&Path) -> io::Result<DiskFile>,
    ) -> anyhow::Result<Option<DiskFile>> {
        let open = |path: &PathBuf| open(path).with_context(|| path.display().to_string());
        self.data_file.as_ref().map(open).transpose()
    }
}
