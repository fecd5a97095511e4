//! The judge of a drill: what is on the medium, against what was promised.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_executor::block_on;
use qbm_core::backup::{self, BackupOptions, Kind, Points};
use qbm_core::bits::Bits;
use qbm_core::copy::Writing;
use qbm_core::descriptor::{Durability, Format, ImageRef};
use qbm_core::image::{self, CreateOptions, OpenOptions, OverlayOptions};
use qbm_core::{Access, Buffer, Directory, Disk, Granularity, Image};

use super::Subject;
use super::plan::{BLOCK, Deed, Life, THREADS, stamped, stamps};
use crate::open::{DiskFile, FileDirectory, FileImage, GateArgs, host};

/// The descriptor of the image under test.
pub(super) const IMAGE: &str = "disk.qbm";
/// Its data image.
const DATA: &str = "disk.raw";
/// What is behind it, if it is an overlay.
const BASE: &str = "base.raw";
/// What is copied from that at a time: several blocks.
const CLUSTER: u64 = 4 * BLOCK;
/// The directory of its backups.
pub(super) const TARGET: &str = "points";
/// The file into which points are restored.
const RESTORED: &str = "restored.raw";
/// The bitmap of its backups.
const BITMAP: &str = "drill";

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lives that ended and were judged.
    pub judged: u64,
    /// Writes that a flush had acknowledged.
    pub writes: u64,
    /// Granules that differed from the point that the bitmap was relative to.
    pub changed: u64,
    /// Of them, marked.
    pub kept: u64,
    /// Of them, not marked. Zero, or the promise is broken.
    pub lost: u64,
    /// Granules that were marked and did not differ.
    pub false_marks: u64,
    /// Blocks of which a flush had acknowledged a write.
    pub flushed: u64,
    /// Of them, not there. Zero, or the promise is broken.
    pub flushed_lost: u64,
    /// Points that restored to the disk as it was.
    pub restores: u64,
    /// Points that did not. Zero, or the promise is broken.
    pub wrong_restores: u64,
    /// Bytes that full backups would have read.
    pub full_bytes: u64,
    /// Bytes that the backups read.
    pub incremental_bytes: u64,
}

impl Tally {
    /// Whether no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.flushed_lost == 0 && self.wrong_restores == 0
    }

    /// Adds what another drill found.
    pub fn add(&mut self, other: Self) {
        self.judged += other.judged;
        self.writes += other.writes;
        self.changed += other.changed;
        self.kept += other.kept;
        self.lost += other.lost;
        self.false_marks += other.false_marks;
        self.flushed += other.flushed;
        self.flushed_lost += other.flushed_lost;
        self.restores += other.restores;
        self.wrong_restores += other.wrong_restores;
        self.full_bytes += other.full_bytes;
        self.incremental_bytes += other.incremental_bytes;
    }
}

/// Who knows what was promised.
#[derive(Debug)]
pub(super) struct Judge {
    directory: PathBuf,
    tally: Tally,
    /// For each block of its own that a flush has acknowledged a write of: its stamp.
    floors: HashMap<u64, u64>,
}

/// How the backups of a drill are made.
pub(super) fn backup_options(name: String) -> BackupOptions {
    BackupOptions {
        bitmap: BITMAP.to_owned(),
        granularity: Granularity::DEFAULT,
        name,
        full: false,
        require_incremental: false,
    }
}

/// Makes the image of a drill.
fn create(directory: &Path, size: u64, subject: Subject) -> anyhow::Result<()> {
    let (file, durability) = (DATA.to_owned(), Durability::Exact);
    let place = GateArgs::default().directory(directory)?;
    if subject == Subject::Flat {
        let options = CreateOptions { file, data: None, size, durability };
        return Ok(block_on(image::create(&place, IMAGE, options, &*host()))?);
    }
    // Shorter than the disk, and stamped with what comes before every life.
    let mut base = vec![0; usize::try_from(size / 2)?];
    for (block, bytes) in (0..).zip(base.chunks_mut(usize::try_from(BLOCK)?)) {
        stamped(block, 0, bytes);
    }
    std::fs::write(directory.join(BASE), base)?;
    let options = OverlayOptions {
        file,
        backing: ImageRef { file: BASE.to_owned(), format: Format::Raw },
        cluster: Granularity::from_bytes(CLUSTER).expect("a power of two"),
        size: Some(size),
        durability,
    };
    block_on(image::create_overlay(&place, IMAGE, options, &*host()))?;
    Ok(())
}

impl Judge {
    /// Makes an image of `size` bytes in `directory`, and a full backup of it.
    pub(super) fn prepare(directory: &Path, size: u64, subject: Subject) -> anyhow::Result<Self> {
        std::fs::create_dir(directory.join(TARGET))?;
        create(directory, size, subject)?;
        let judge = Self {
            directory: directory.to_owned(),
            tally: Tally::default(),
            floors: HashMap::new(),
        };
        let image = judge.open()?;
        let options = backup_options("life-0".to_owned());
        block_on(backup::run(&image, &judge.target()?, &options, &host(), &mut |_| {}))?;
        block_on(image.close())?;
        Ok(judge)
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Judges what `life` left, which had said `lines`.
    pub(super) fn judge(&mut self, life: Life, lines: &[String]) -> anyhow::Result<()> {
        self.raise_floors(life, lines);
        let image = self.open().context("opening the image after the writer died")?;
        let disk = block_on(image.read(0, Buffer::zeroed(usize::try_from(image.size())?)))?;
        self.check_flushed(&disk);
        let target = self.target()?;
        let points = block_on(backup::points(&target))?;
        self.check_marks(&image, &points, &disk)?;
        let options = backup_options(format!("after-{}", life.number));
        let report = block_on(backup::run(&image, &target, &options, &host(), &mut |_| {}))
            .context("the backup after the writer died")?;
        block_on(image.close()).context("closing the image after the writer died")?;
        self.tally.full_bytes += report.size;
        self.tally.incremental_bytes += report.read;
        self.restore(&target, &report.name)?;
        match self.read(RESTORED)? == *disk {
            true => self.tally.restores += 1,
            false => self.tally.wrong_restores += 1,
        }
        if matches!(report.kind, Kind::Full(_)) {
            self.prune(&points)?;
        }
        self.tally.judged += 1;
        Ok(())
    }

    /// Takes in what flushes have acknowledged.
    fn raise_floors(&mut self, life: Life, lines: &[String]) {
        for thread in 0..THREADS {
            let said = |line: &String| {
                let index = line.strip_prefix(&format!("flushed {thread} "))?;
                index.parse::<u32>().ok()
            };
            let Some(last) = lines.iter().filter_map(said).next_back() else { continue };
            let deeds = life.deeds(thread);
            let is_own = |block: u64| deeds.is_own(block);
            for (index, deed) in (0..last).zip(life.deeds(thread)) {
                if let Deed::Write(block) = deed {
                    self.tally.writes += 1;
                    if is_own(block) {
                        self.floors.insert(block, life.stamp(index));
                    }
                }
            }
            // What a later life may discard is promised to nobody.
        }
    }

    /// P3: what a flush has acknowledged is there, or something newer.
    fn check_flushed(&mut self, disk: &[u8]) {
        for (block, floor) in &self.floors {
            let start = usize::try_from(block * BLOCK).expect("the disk is in memory");
            let bytes = &disk[start..start + usize::try_from(BLOCK).expect("a small block")];
            let there = stamps(*block, bytes).all(|stamp| stamp >= Some(*floor));
            self.tally.flushed += 1;
            self.tally.flushed_lost += u64::from(!there);
        }
    }

    /// P1 and P2: the marks, against the point that they are relative to.
    fn check_marks(
        &mut self,
        image: &FileImage,
        points: &Points,
        disk: &[u8],
    ) -> anyhow::Result<()> {
        let info = block_on(image.bitmaps()).into_iter().find(|bitmap| bitmap.name == BITMAP);
        let info = info.context("the bitmap is gone")?;
        let base = info.points[0].and_then(|id| points.by_id(id));
        let base = base.context("the point that the bitmap is relative to is gone")?;
        self.restore(&self.target()?, &base.name)?;
        let reference = self.read(RESTORED)?;
        let bits: Bits = block_on(image.bitmap_bits(BITMAP))?;
        let granule = usize::try_from(info.granularity.bytes())?;
        for (index, (old, new)) in (0..).zip(reference.chunks(granule).zip(disk.chunks(granule))) {
            let (changed, marked) = (old != new, bits.get(index));
            self.tally.changed += u64::from(changed);
            self.tally.kept += u64::from(changed && marked);
            self.tally.lost += u64::from(changed && !marked);
            self.tally.false_marks += u64::from(!changed && marked);
        }
        Ok(())
    }

    fn open(&self) -> anyhow::Result<FileImage> {
        let options = OpenOptions::new(Access::Write);
        GateArgs::default().image(&self.directory.join(IMAGE), options)
    }

    fn target(&self) -> anyhow::Result<FileDirectory> {
        GateArgs::default().directory(&self.directory.join(TARGET))
    }

    fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        std::fs::read(self.directory.join(name)).with_context(|| name.to_owned())
    }

    /// Restores the point `name` to the file for that.
    fn restore(&self, target: &FileDirectory, name: &str) -> anyhow::Result<()> {
        let options = OpenOptions::new(Access::Read);
        let descriptor = format!("{name}.qbm");
        let point = Image::open(target.clone(), &descriptor, options, host());
        let point = block_on(point).with_context(|| format!("opening the point {name}"))?;
        let path = self.directory.join(RESTORED);
        std::fs::File::create(&path)?.set_len(point.size())?;
        let file = DiskFile::open_operator(&path, Access::Write)?;
        let sink: Disk<'_, FileDirectory> =
            Disk::File { name: RESTORED, file: &file, size: point.size() };
        block_on(backup::restore(&point, sink, Writing::ToEmpty, &mut |_| {}))?;
        Ok(())
    }

    /// Removes `points`: a full point has come after them.
    fn prune(&self, points: &Points) -> anyhow::Result<()> {
        let target = self.target()?;
        let names = block_on(target.list())?;
        for entry in &points.entries {
            let mine = names.iter().filter(|name| {
                name.strip_prefix(entry.name.as_str()).is_some_and(|rest| rest.starts_with('.'))
            });
            for name in mine {
                block_on(target.remove(name))?;
            }
        }
        Ok(())
    }
}
