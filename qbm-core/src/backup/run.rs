//! Making a point: full the first time, incremental after that.

use std::sync::Arc;

use super::Progress;
use super::contents::{self, Selection, Source, Written};
use super::digests::{Writer, block_of};
use super::points::{DESCRIPTOR_SUFFIX, Points, points};
use crate::bits::Bits;
use crate::chain::MAX_LAYERS;
use crate::descriptor::{
    Bitmap, BitmapKind, Descriptor, Doubt, Format, ImageRef, Point, SealRef, SegmentRef,
};
use crate::image::{ALLOCATION, BitmapInfo, Fleece, FrozenPoint, NewPoint, Outcome, seal};
use crate::job::Steps;
use crate::{Directory, Error, Granularity, Host, Id, Image, Result, Storage, directory as names};

/// How a backup is made.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The bitmap that says what has changed; it is added if the image does not have it.
    pub bitmap: String,
    /// Bytes that a bit of an added bitmap stands for.
    pub granularity: Granularity,
    /// The name of the point in the target: a file name without its ending, and new.
    pub name: String,
    /// Store the whole disk, whatever the bitmap says.
    pub full: bool,
    /// Fail rather than store the whole disk.
    pub require_incremental: bool,
}

/// What a point holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The whole disk.
    Full(FullReason),
    /// What has changed since the point `parent`.
    Incremental {
        /// The point before.
        parent: Id,
    },
}

/// Why a point is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullReason {
    /// It was asked for.
    Requested,
    /// The bitmap belongs to no point yet, or no longer.
    NoParent,
    /// The point that the bitmap is relative to is not in the target.
    ParentMissing,
    /// Another point would make the chain longer than can be opened.
    ChainTooLong,
}

impl FullReason {
    /// The stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::NoParent => "no-parent",
            Self::ParentMissing => "parent-missing",
            Self::ChainTooLong => "chain-too-long",
        }
    }

    /// The sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Requested => "a full backup was asked for",
            Self::NoParent => "the bitmap is not relative to any earlier backup",
            Self::ChainTooLong => "the chain of points would be longer than can be opened",
            Self::ParentMissing => "the backup that the bitmap is relative to is not in the target",
        }
    }
}

/// What a backup would do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What it would store.
    pub kind: Kind,
    /// Bytes of the disk that it would look at.
    pub bytes: u64,
    /// Why some of them count as changed that may not be.
    pub doubt: Option<Doubt>,
}

/// What a backup did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The point's name.
    pub name: String,
    /// The point's id.
    pub point: Id,
    /// What it holds.
    pub kind: Kind,
    /// The size of the disk in bytes.
    pub size: u64,
    /// Bytes of the disk that were marked, or all of them for a full backup.
    pub dirty: u64,
    /// Bytes read from the disk.
    pub read: u64,
    /// Bytes written to the point; the rest is holes.
    pub stored: u64,
    /// Why ranges counted as changed that may not be.
    pub doubt: Option<Doubt>,
}

/// What a backup of `image` to `target` with `options` would do, without doing it.
///
/// # Errors
///
/// An error of the target.
pub async fn estimate<D: Directory, T: Directory>(
    image: &Image<D>,
    target: &T,
    options: &BackupOptions,
) -> Result<Estimate> {
    let points = points(target).await?;
    let size = image.size();
    let bitmap = find(image, &options.bitmap).await;
    let parent = bitmap.as_ref().and_then(|bitmap| bitmap.points[0]);
    let kind = kind(parent, &points, options);
    let doubt = bitmap.as_ref().and_then(|bitmap| bitmap.doubt);
    let bytes = match (kind, bitmap) {
        (Kind::Incremental { .. }, Some(bitmap)) => {
            let bits = image.bitmap_bits(&options.bitmap).await?;
            selection(kind, bitmap.granularity, &bits, size).bytes()
        }
        _ => size,
    };
    Ok(Estimate { kind, bytes, doubt })
}

/// Stores a point of `image` in `target`.
///
/// # Errors
///
/// Any error of either side, or [`Error::Unusable`] where an incremental backup is required and
/// cannot be. No mark is lost then, and the target has no part of a point.
pub async fn run<D: Directory, T: Directory>(
    image: &Image<D>,
    target: &T,
    options: &BackupOptions,
    host: &Arc<dyn Host>,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport> {
    make((image, target), None, options, host, progress).await
}

/// Stores a point of `image` in `target` while guests write: what the point needs and they write
/// over is copied to `fleece` first. `steps` may hold it up, or end it.
///
/// # Errors
///
/// As for [`run`]; and if the fleece is full or fails, which no guest notices.
pub async fn run_live<D: Directory, T: Directory>(
    (image, fleece): (&Image<D>, Arc<Fleece<D::File>>),
    target: &T,
    options: &BackupOptions,
    host: &Arc<dyn Host>,
    steps: &mut (impl Steps + ?Sized),
) -> Result<BackupReport> {
    make((image, target), Some(fleece), options, host, steps).await
}

async fn make<D: Directory, T: Directory>(
    (image, target): (&Image<D>, &T),
    fleece: Option<Arc<Fleece<D::File>>>,
    options: &BackupOptions,
    host: &Arc<dyn Host>,
    steps: &mut (impl Steps + ?Sized),
) -> Result<BackupReport> {
    // Whatever it is: a point that cannot be read, or no point at all.
    names::refuse_taken(target, &format!("{}{DESCRIPTOR_SUFFIX}", options.name)).await?;
    make_ready(image, target, options).await?;
    let point = new_point(options, fleece, host);
    let frozen = image.prepare_with_point(&[], point).await?.commit().await?;
    let frozen = frozen.expect("it was to take one");
    store((image, frozen), target, options, host, steps).await
}

/// Settles what a crash has left of an earlier backup, and finds what is in the way of one with `options`,
/// whose [point](new_point) is then taken, alone or with those of other images.
///
/// # Errors
///
/// Any error of either side, or [`Error::Unusable`] where an incremental backup is required and
/// cannot be.
pub async fn make_ready<D: Directory, T: Directory>(
    image: &Image<D>,
    target: &T,
    options: &BackupOptions,
) -> Result<()> {
    let points = points(target).await?;
    settle_earlier(image, &points, &options.bitmap).await?;
    let parent = find(image, &options.bitmap).await.and_then(|bitmap| bitmap.points[0]);
    possible_kind(image.name(), parent, &points, options).map(drop)
}

/// The point of a backup with `options`; its bitmap is added if the image does not have it.
pub fn new_point<F: Storage>(
    options: &BackupOptions,
    fleece: Option<Arc<Fleece<F>>>,
    host: &Arc<dyn Host>,
) -> NewPoint<F> {
    let (bitmap, add) = (options.bitmap.clone(), Some(options.granularity));
    NewPoint { bitmap, add, id: host.fresh_id(), fleece }
}

/// Stores `frozen`, a point of `image`, in `target`, and settles it: by whether it is there.
///
/// # Errors
///
/// As for [`run_live`].
pub async fn store<D: Directory, T: Directory>(
    (image, frozen): (&Image<D>, FrozenPoint<D::File>),
    target: &T,
    options: &BackupOptions,
    host: &Arc<dyn Host>,
    steps: &mut (impl Steps + ?Sized),
) -> Result<BackupReport> {
    let stored = store_frozen((image, &frozen), target, options, host, steps).await;
    let outcome = if stored.is_ok() { Outcome::Stored } else { Outcome::Abandoned };
    let settled = image.settle_point(frozen, outcome).await;
    let report = stored?;
    settled?;
    Ok(report)
}

async fn store_frozen<D: Directory, T: Directory>(
    (image, frozen): (&Image<D>, &FrozenPoint<D::File>),
    target: &T,
    options: &BackupOptions,
    host: &Arc<dyn Host>,
    steps: &mut (impl Steps + ?Sized),
) -> Result<BackupReport> {
    let points = points(target).await?;
    // What was done with the point may have changed it.
    let kind = possible_kind(image.name(), frozen.parent(), &points, options)?;
    if let Kind::Incremental { .. } = kind {
        frozen.view().spare_unmarked();
    }
    let mut report = BackupReport {
        name: options.name.clone(),
        point: frozen.point(),
        kind,
        size: frozen.size(),
        dirty: 0,
        read: 0,
        stored: 0,
        doubt: frozen.doubt(),
    };
    let store = Store { image, target, frozen, points: &points, host };
    store.point(&mut report, steps).await?;
    Ok(report)
}

/// Settles a point that a crash interrupted: by whether the target has it.
pub(super) async fn settle_earlier<D: Directory>(
    image: &Image<D>,
    points: &Points,
    name: &str,
) -> Result<()> {
    let Some(bitmap) = find(image, name).await else { return Ok(()) };
    let Some(Some(point)) = bitmap.points.into_iter().skip(1).next_back() else { return Ok(()) };
    let outcome = match points.by_id(point) {
        Some(_) => Outcome::Stored,
        None => Outcome::Abandoned,
    };
    image.settle_found(name, point, outcome).await
}

pub(super) async fn find<D: Directory>(image: &Image<D>, name: &str) -> Option<BitmapInfo> {
    image.bitmaps().await.into_iter().find(|bitmap| bitmap.name == name)
}

fn kind(parent: Option<Id>, points: &Points, options: &BackupOptions) -> Kind {
    match parent {
        _ if options.full => Kind::Full(FullReason::Requested),
        None => Kind::Full(FullReason::NoParent),
        Some(parent) if points.by_id(parent).is_none() => Kind::Full(FullReason::ParentMissing),
        Some(parent) if points.depth(parent) >= MAX_LAYERS => Kind::Full(FullReason::ChainTooLong),
        Some(parent) => Kind::Incremental { parent },
    }
}

/// The same, where it is what `options` require.
fn possible_kind(
    name: &str,
    parent: Option<Id>,
    points: &Points,
    options: &BackupOptions,
) -> Result<Kind> {
    match kind(parent, points, options) {
        Kind::Full(reason) if options.require_incremental => {
            let what = format!("an incremental backup is not possible: {}", reason.sentence());
            Err(Error::unusable(name, what))
        }
        kind => Ok(kind),
    }
}

fn selection(kind: Kind, granularity: Granularity, bits: &Bits, size: u64) -> Selection<'_> {
    let bits = matches!(kind, Kind::Incremental { .. }).then_some(bits);
    Selection { granularity, bits, size }
}

/// The names of a point's files.
struct Files {
    raw: String,
    /// The allocation bitmap and its seal, if it has one.
    bits: String,
    seal: String,
    digests: String,
}

/// What storing a point needs to know.
struct Store<'a, D: Directory, T> {
    image: &'a Image<D>,
    target: &'a T,
    frozen: &'a FrozenPoint<D::File>,
    points: &'a Points,
    host: &'a Arc<dyn Host>,
}

impl<D: Directory, T: Directory> Store<'_, D, T> {
    /// Writes the point wholly and durably, or leaves nothing of it.
    async fn point(
        &self,
        report: &mut BackupReport,
        steps: &mut (impl Steps + ?Sized),
    ) -> Result<()> {
        let descriptor = format!("{}{DESCRIPTOR_SUFFIX}", report.name);
        let raw = format!("{}.raw", report.name);
        let data = self.target.create(&raw).await.map_err(Error::io(&raw, "create"))?;
        let files = Files {
            raw,
            bits: format!("{descriptor}.{ALLOCATION}.{}.bits", self.host.fresh_id()),
            seal: format!("{descriptor}.{ALLOCATION}.{}.seal", self.host.fresh_id()),
            digests: format!("{descriptor}.{}.digests", self.host.fresh_id()),
        };
        let written = self.write_files(&files, &data, report, steps).await;
        let named = match written {
            Ok(digest) => self.name_files(&descriptor, &files, digest, report).await,
            Err(error) => Err(error),
        };
        if named.is_err() {
            for file in [files.raw, files.bits, files.seal, files.digests] {
                // Best effort: nothing names them.
                let _removed = self.target.remove(&file).await;
            }
        }
        named
    }

    async fn write_files(
        &self,
        files: &Files,
        data: &T::File,
        report: &mut BackupReport,
        steps: &mut (impl Steps + ?Sized),
    ) -> Result<String> {
        let (frozen, raw) = (self.frozen, &files.raw);
        data.set_len(report.size).await.map_err(Error::io(raw, "resize"))?;
        let selection = selection(report.kind, frozen.granularity(), frozen.bits(), report.size);
        report.dirty = selection.bytes();
        let io = |action| Error::io(&files.digests, action);
        let file = self.target.create(&files.digests).await.map_err(io("create"))?;
        let block = block_of(frozen.granularity());
        let mut digests = Writer::begin(file, block, report.size).await.map_err(io("resize"))?;
        let source = Source { image: self.image, view: frozen.view() };
        let part = (raw.as_str(), data, &mut digests);
        let Written { read, stored } = contents::copy(&source, &selection, part, steps).await?;
        (report.read, report.stored) = (read, stored);
        data.sync().await.map_err(Error::io(raw, "sync"))?;
        if let Some(allocation) = selection.bits {
            let io = |action| Error::io(&files.bits, action);
            let file = self.target.create(&files.bits).await.map_err(io("create"))?;
            contents::write_bits(&file, allocation).await.map_err(io("write"))?;
            file.sync().await.map_err(io("sync"))?;
            let seal = seal::contents(&files.bits, 0, allocation);
            seal::write(self.target, &files.seal, &seal).await?;
        }
        let digest = digests.finish(selection.bits).await.map_err(io("write"))?;
        // The names too must be durable before a descriptor has them.
        self.target.sync().await.map_err(Error::io("target", "sync"))?;
        steps.settle().await?;
        Ok(digest)
    }

    /// The commit point of the target.
    async fn name_files(
        &self,
        name: &str,
        files: &Files,
        digest: String,
        report: &BackupReport,
    ) -> Result<()> {
        let source = self.image.descriptor().await.id;
        let mut descriptor =
            Descriptor::new(ImageRef { file: files.raw.clone(), format: Format::Raw });
        descriptor.id = Some(self.host.fresh_id());
        descriptor.size = Some(report.size);
        let mut parent = None;
        if let Kind::Incremental { parent: id } = report.kind {
            let before = self.points.by_id(id).expect("`kind` found it");
            let backing = ImageRef { file: before.descriptor(), format: Format::Qbm };
            descriptor.bitmaps.push(allocation(self.frozen.granularity(), files, backing));
            parent = Some(id);
        }
        descriptor.point = Some(Point {
            id: report.point,
            parent,
            created: self.host.now(),
            image: source.unwrap_or(Id(0)),
            bitmap: self.frozen.bitmap().to_owned(),
            stored: report.stored,
            digest,
            digests: files.digests.clone(),
            block: block_of(self.frozen.granularity()),
        });
        let temporary = format!("{name}.{}.tmp", self.host.fresh_id());
        let text = descriptor.to_text().map_err(Error::descriptor(name))?;
        names::replace(self.target, &temporary, name, &text)
            .await
            .map_err(Error::io(name, "create"))
    }
}

fn allocation(granularity: Granularity, files: &Files, backing: ImageRef) -> Bitmap {
    Bitmap {
        name: ALLOCATION.to_owned(),
        granularity,
        kind: BitmapKind::Allocation { backing: Some(backing) },
        segments: vec![SegmentRef { file: files.bits.clone(), point: None }],
        disabled: false,
        doubt: None,
        seal: Some(SealRef { file: files.seal.clone(), generation: 0 }),
    }
}
