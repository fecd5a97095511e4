//! What is behind an image, as the descriptors name it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_executor::block_on;
use qbm_core::descriptor::{BitmapKind, Descriptor, Format, ImageRef, MAX_DESCRIPTOR_BYTES};
use qbm_core::directory::read_whole;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Directory, Lock, Storage};

use crate::disk::{DiskFormat, OpenDisk};
use crate::open::GateArgs;

/// The most images behind one, as many as can be opened.
const MOST: usize = 32;

/// An image behind another.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The folder of the descriptor that names it.
    folder: PathBuf,
    /// What that descriptor says.
    named: ImageRef,
}

impl Behind {
    /// What the image at `top` would name as `named`.
    pub fn new(top: &Path, named: ImageRef) -> Self {
        Self { folder: top.parent().unwrap_or(Path::new("")).to_owned(), named }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.named.file)
    }

    /// Whether `path` means it.
    pub fn is(&self, path: &Path) -> bool {
        let own = self.path();
        own == path || matches!((own.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b)
    }

    /// What a descriptor says of it.
    pub fn into_named(self) -> ImageRef {
        self.named
    }

    /// Opens it for `access`, if a descriptor in that folder may name it.
    ///
    /// # Errors
    ///
    /// As for [`OpenDisk::open`].
    pub fn open(&self, gate: &GateArgs, access: Access) -> anyhow::Result<OpenDisk> {
        if self.named.format == Format::Qbm {
            return OpenDisk::open(gate, (&self.path(), DiskFormat::Qbm), access, false);
        }
        let lock = match access {
            Access::Read => Lock::Read,
            Access::Write => Lock::Write,
        };
        self.open_raw(gate, access, lock)
    }

    /// Opens it for writing, where an overlay over it that is open has
    /// [locked](qbm_core::Image::lock_layer) it.
    ///
    /// # Errors
    ///
    /// As for [`OpenDisk::open`].
    pub fn open_locked(&self, gate: &GateArgs) -> anyhow::Result<OpenDisk> {
        if self.named.format == Format::Raw {
            return self.open_raw(gate, Access::Write, Lock::None);
        }
        let options = OpenOptions { locked: true, ..OpenOptions::new(Access::Write) };
        Ok(OpenDisk::Image(Box::new(gate.image(&self.path(), options)?)))
    }

    fn open_raw(&self, gate: &GateArgs, access: Access, lock: Lock) -> anyhow::Result<OpenDisk> {
        let (name, file) = (self.path().display().to_string(), &self.named.file);
        let folder = match self.folder.as_path() {
            empty if empty == Path::new("") => Path::new("."),
            folder => folder,
        };
        let directory = gate.directory(folder)?;
        let opened = block_on(async {
            let file = directory.open(file, access).await?;
            file.lock(lock).await?;
            let size = file.len().await?;
            Ok::<_, std::io::Error>((file, size))
        });
        let (file, size) = opened.with_context(|| name.clone())?;
        Ok(OpenDisk::Raw { name, file, size })
    }
}

/// All that is behind the image at `path`, the next one first.
///
/// # Errors
///
/// If a descriptor cannot be read.
pub fn behind(gate: &GateArgs, path: &Path) -> anyhow::Result<Vec<Behind>> {
    let mut chain: Vec<Behind> = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next.take() {
        let descriptor = read_descriptor(gate, &path)?;
        let Some(BitmapKind::Allocation { backing: Some(backing) }) =
            descriptor.allocation().map(|bitmap| bitmap.kind.clone())
        else {
            break;
        };
        let behind = Behind::new(&path, backing);
        if chain.len() < MOST && behind.named.format == Format::Qbm {
            next = Some(behind.path());
        }
        chain.push(behind);
    }
    Ok(chain)
}

/// The descriptor at `path`.
///
/// # Errors
///
/// If it cannot be read, or is none.
pub fn read_descriptor(gate: &GateArgs, path: &Path) -> anyhow::Result<Descriptor> {
    let (directory, name) = gate.place(path)?;
    let text = block_on(async {
        let file = directory.open(&name, Access::Read).await?;
        read_whole(&file, MAX_DESCRIPTOR_BYTES).await
    });
    let text = text.with_context(|| path.display().to_string())?;
    Descriptor::parse(&text).map_err(|error| anyhow::anyhow!("{}:{error}", path.display()))
}
