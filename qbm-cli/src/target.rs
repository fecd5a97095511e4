//! The disk that a copy goes to: a new one, which has its name only once it is whole, or one that
//! is there.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use futures_executor::block_on;
use qbm_core::bits::Bits;
use qbm_core::copy::{Copying, Progress, Writing, copy};
use qbm_core::descriptor::Durability;
use qbm_core::graph;
use qbm_core::image::{self, BitmapAction, Contents, NewBitmap, Over};
use qbm_core::{Access, Directory, Disk, Granularity, Id, Lock, Storage};

use crate::disk::{DiskFormat, OpenDisk};
use crate::open::{DiskFile, FileDirectory, GateArgs, host};

/// What a copy goes to.
#[derive(Debug)]
pub struct Target {
    disk: OpenDisk,
    /// How it gets its name, if it has none yet.
    naming: Option<Naming>,
}

/// What else is new of a disk, besides its bytes; only of an image.
#[derive(Debug, Default)]
pub struct Extras {
    /// What is behind it, and which clusters are its own.
    pub over: Option<Over>,
    /// Its dirty bitmaps.
    pub bitmaps: Vec<NewBitmap>,
}

/// A new disk that has its name only at the end. When it is dropped before that, it is removed; what a
/// kill leaves, the next copy to that name removes, and so does `check -r`.
#[derive(Debug)]
struct Naming {
    directory: FileDirectory,
    /// The name that it is to have.
    name: String,
    /// The name that its bytes have.
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
        let replaced = match format {
            DiskFormat::Raw => {
                let there = there(path)?;
                if there.as_ref().is_some_and(DiskFile::is_block_device) {
                    return Self::open(gate, (path, format), size);
                }
                there
            }
            DiskFormat::Qbm => {
                refuse_taken(path, "-n writes into it")?;
                refuse_taken(
                    &path.with_file_name(data_name(&name)),
                    "a new image has its data there",
                )?;
                None
            }
        };
        block_on(remove_leftovers(&directory, &name));
        let file = temporary(&name, host().fresh_id());
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

    /// Copies there what `source` has that `backing` does not, with clusters of a size; returns what
    /// the new image has.
    ///
    /// # Errors
    ///
    /// Any error of the three.
    pub fn fill_over(
        &self,
        source: Disk<'_, FileDirectory>,
        backing: Disk<'_, FileDirectory>,
        cluster: Granularity,
        show: &mut dyn FnMut(Progress),
    ) -> anyhow::Result<Bits> {
        Ok(block_on(graph::copy_over(source, backing, (self.disk(), cluster), show))?)
    }

    /// Closes it cleanly; a new one has its name from here on with all extras, if `filled` is good. One
    /// that was there gets the bitmaps.
    ///
    /// # Errors
    ///
    /// That of `filled`, or any error of the last steps. A new disk is gone then.
    pub fn finish(self, filled: anyhow::Result<Extras>) -> anyhow::Result<()> {
        let Self { disk, naming } = self;
        let Some(mut naming) = naming else {
            let added = filled.and_then(|extras| add_bitmaps(&disk, extras.bitmaps));
            let closed = disk.close();
            return added.and(closed);
        };
        let extras = filled?;
        let OpenDisk::Raw { name, file, .. } = disk else {
            unreachable!("a new disk is a file until it has its name")
        };
        naming.take(file, extras).with_context(|| name)
    }
}

impl Naming {
    /// Gives the disk in `data`, which is durable, its name.
    fn take(&mut self, data: DiskFile, extras: Extras) -> anyhow::Result<()> {
        if self.format == DiskFormat::Raw {
            return Ok(block_on(async {
                self.directory.rename(&self.file, &self.name).await?;
                self.named = true;
                self.directory.sync().await
            })?);
        }
        let file = data_name(&self.name);
        block_on(async {
            // Refused if somebody has it by now; a rename would take it from him.
            drop(self.directory.create(&file).await?);
            let renamed = self.directory.rename(&self.file, &file).await;
            if renamed.is_err() {
                let _removed = self.directory.remove(&file).await;
            }
            renamed
        })?;
        self.file.clone_from(&file);
        let Extras { over, bitmaps } = extras;
        let contents = Contents { file, data, over, bitmaps, durability: Durability::default() };
        let created =
            block_on(image::create_around(&self.directory, &self.name, contents, &*host()));
        // After an error too a descriptor may be there, which names the data.
        self.named = block_on(self.directory.open(&self.name, Access::Read)).is_ok();
        Ok(created?)
    }
}

/// The name of a new disk `name` until it is whole.
fn temporary(name: &str, id: Id) -> String {
    format!("{name}.{id}.tmp")
}

/// Removes what copies to `name` left that were killed, as far as it can. One under way holds a lock on
/// its file.
async fn remove_leftovers(directory: &FileDirectory, name: &str) {
    for file in directory.list().await.unwrap_or_default() {
        let id = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        let id = id.and_then(|rest| rest.strip_suffix(".tmp")).and_then(|id| id.parse().ok());
        if id.is_none_or(|id: Id| temporary(name, id) != file) {
            continue;
        }
        let Ok(leftover) = directory.open(&file, Access::Write).await else { continue };
        if leftover.lock(Lock::Write).await.is_ok() {
            let _removed = directory.remove(&file).await;
        }
    }
}

/// Adds `bitmaps` to the image `disk`, all or none.
fn add_bitmaps(disk: &OpenDisk, bitmaps: Vec<NewBitmap>) -> anyhow::Result<()> {
    let actions = bitmaps.into_iter().flat_map(|NewBitmap { name, disabled, marks }| {
        let granularity = marks.granularity;
        let add = BitmapAction::Add { name: name.clone(), granularity, disabled };
        [add, BitmapAction::MergeMarks { target: name, marks }]
    });
    match disk {
        OpenDisk::Image(image) => Ok(block_on(image.transaction(&actions.collect::<Vec<_>>()))?),
        OpenDisk::Raw { .. } => Ok(()),
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

/// Refuses to make a file of an image where something is.
fn refuse_taken(path: &Path, remedy: &str) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
        Ok(_) => bail!("{}: it exists already; {remedy}", path.display()),
    }
}

/// The name of the data image of a new image `name`.
pub fn data_name(name: &str) -> String {
    format!("{}.raw", name.strip_suffix(".qbm").unwrap_or(name))
}
