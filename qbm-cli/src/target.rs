//! The disk that a copy goes to: a new one, which has its name only once it is whole, or one that
//! is there.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use futures_executor::block_on;
use qbm_core::copy::{Copying, Progress, Writing, copy};
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, CreateOptions};
use qbm_core::{Access, Directory, Disk, Lock, Storage};

use crate::disk::{DiskFormat, OpenDisk};
use crate::open::{DiskFile, FileDirectory, GateArgs, host};

/// What a copy goes to.
#[derive(Debug)]
pub struct Target {
    disk: OpenDisk,
    /// How it gets its name, if it has none yet.
    naming: Option<Naming>,
}

/// A new disk that has its name only at the end. When it is dropped before that, it is removed.
#[derive(Debug)]
struct Naming {
    directory: FileDirectory,
    /// The name that it is to have.
    name: String,
    /// The name that its bytes have: of a raw disk until it is whole, of an image's data for good.
    file: String,
    format: DiskFormat,
    /// The file that has the name now. Its lock keeps others from it until it is replaced.
    _replaced: Option<DiskFile>,
    named: bool,
}

/// Bytes that are left out together where they are zero, unless told otherwise; as in qemu-img.
pub const GRAIN: usize = 4096;

impl Target {
    /// A new disk of `size` bytes at `path`. A raw file that is there is replaced at the end, a
    /// block device is written to, and an image is refused.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or what is there is in use.
    pub fn create(
        gate: &GateArgs,
        (path, format): (&Path, DiskFormat),
        size: u64,
    ) -> anyhow::Result<Self> {
        let (directory, name) = gate.place(path)?;
        let (file, replaced) = match format {
            DiskFormat::Raw => {
                let there = there(path)?;
                if there.as_ref().is_some_and(DiskFile::is_block_device) {
                    return Self::open(gate, (path, format), size);
                }
                (format!("{name}.{}.tmp", host().fresh_id()), there)
            }
            DiskFormat::Qbm => {
                refuse_image(path)?;
                (data_name(&name), None)
            }
        };
        let beside = path.with_file_name(&file).display().to_string();
        let made = block_on(directory.create(&file)).with_context(|| beside.clone())?;
        let naming = Naming { directory, name, file, format, _replaced: replaced, named: false };
        block_on(async {
            made.lock(Lock::Write).await?;
            made.set_len(size).await
        })
        .with_context(|| beside.clone())?;
        let disk = OpenDisk::Raw { name: beside, file: made, size };
        Ok(Self { disk, naming: Some(naming) })
    }

    /// The disk at `path`, which must have room for `size` bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is too small.
    pub fn open(
        gate: &GateArgs,
        (path, format): (&Path, DiskFormat),
        size: u64,
    ) -> anyhow::Result<Self> {
        let disk = OpenDisk::open(gate, (path, format), Access::Write, false)?;
        if disk.disk().size() < size {
            let there = disk.disk().size();
            disk.close()?;
            bail!("{}: output file is smaller than input file ({there} < {size})", path.display());
        }
        Ok(Self { disk, naming: None })
    }

    /// The disk to write to.
    pub fn disk(&self) -> Disk<'_, FileDirectory> {
        self.disk.disk()
    }

    /// What has to be written of a disk that goes there; `full` if it is to have space for all.
    pub fn writing(&self, full: bool) -> Writing {
        match (&self.naming, full) {
            (_, true) => Writing::Full,
            (Some(_), false) => Writing::ToEmpty,
            (None, false) => Writing::All,
        }
    }

    /// Copies `parts` there.
    ///
    /// # Errors
    ///
    /// Any error of either side.
    pub fn fill(
        &self,
        parts: &[(Disk<'_, FileDirectory>, Copying)],
        show: &mut dyn FnMut(Progress),
    ) -> anyhow::Result<()> {
        let total = parts.iter().map(|(_, copying)| copying.from.length()).sum();
        let mut before = 0;
        for (source, copying) in parts {
            let mut progress = |at: Progress| show(Progress { done: before + at.done, total });
            block_on(copy(*source, self.disk(), copying, &mut progress))?;
            before += copying.from.length();
        }
        Ok(())
    }

    /// Closes it cleanly; a new one has its name from here on, if `filled` is good.
    ///
    /// # Errors
    ///
    /// That of `filled`, or any error of the last steps. A new disk is gone then.
    pub fn finish(self, filled: anyhow::Result<()>) -> anyhow::Result<()> {
        let Self { disk, naming } = self;
        let Some(mut naming) = naming else {
            let closed = disk.close();
            return filled.and(closed);
        };
        filled?;
        let OpenDisk::Raw { name, file, .. } = disk else {
            unreachable!("a new disk is a file until it has its name")
        };
        naming.take(file).with_context(|| name)
    }
}

impl Naming {
    /// Gives the disk in `data`, which is durable, its name.
    fn take(&mut self, data: DiskFile) -> anyhow::Result<()> {
        match self.format {
            DiskFormat::Raw => block_on(async {
                self.directory.rename(&self.file, &self.name).await?;
                self.named = true;
                self.directory.sync().await
            })?,
            DiskFormat::Qbm => {
                let options = CreateOptions {
                    file: self.file.clone(),
                    data: Some(data),
                    size: 0,
                    durability: Durability::default(),
                };
                block_on(image::create(&self.directory, &self.name, options, &*host()))?;
                self.named = true;
            }
        }
        Ok(())
    }
}

impl Drop for Naming {
    fn drop(&mut self) {
        if !self.named {
            // Best effort: half a disk is of no use to anybody.
            let _removed = block_on(self.directory.remove(&self.file));
        }
    }
}

/// The raw disk that is at `path` already, locked.
fn there(path: &Path) -> anyhow::Result<Option<DiskFile>> {
    let opened = match DiskFile::open_operator(path, Access::Write) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let file = opened.with_context(|| path.display().to_string())?;
    block_on(file.lock(Lock::Write)).with_context(|| path.display().to_string())?;
    Ok(Some(file))
}

/// Refuses to put an image where something is: its files would have to go too.
fn refuse_image(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
        Ok(_) => bail!("{}: it exists already; -n writes into it", path.display()),
    }
}

/// The name of the data image of a new image `name`.
pub fn data_name(name: &str) -> String {
    format!("{}.raw", name.strip_suffix(".qbm").unwrap_or(name))
}
