//! The descriptor: the JSON file that names an image's data and bitmaps.
//!
//! docs/format.md is the specification. A [`Descriptor`] that was read is valid: every limit and
//! rule of the format was checked by [`Descriptor::parse`]. Whoever changes one may break rules for
//! as long as it stays in memory: [`Descriptor::to_text`] checks them again, so that no descriptor
//! is written that could not be read.

mod error;
mod json;
mod member;
mod name;
mod output;
mod parse;
mod reader;
mod shape;
mod value;
mod write;

pub use error::{DescriptorError, Position};
pub use name::{check_bitmap_name, check_file_name};

use crate::host::{Id, Timestamp};
use crate::storage::Identity;
use crate::units::Granularity;

/// The most bytes a descriptor may have.
pub const MAX_DESCRIPTOR_BYTES: usize = 1 << 20;
/// The deepest nesting of a descriptor's objects and arrays.
pub const MAX_DEPTH: usize = 16;
/// The most bitmaps an image may have.
pub const MAX_BITMAPS: usize = 1024;
/// The most segments a bitmap may have.
pub const MAX_SEGMENTS: usize = 8;
/// The longest name of a bitmap, in bytes.
pub const MAX_BITMAP_NAME: usize = 1023;
/// The longest name of a file, in bytes.
pub const MAX_FILE_NAME: usize = 4095;
/// The most bytes of a disk that one digest of a point is taken of.
pub const MAX_BLOCK: u64 = 1 << 20;
/// The highest generation. At one open a microsecond it is reached in 292,000 years, and the next
/// one can still be counted, so that it is refused and does not wrap.
pub const MAX_GENERATION: u64 = i64::MAX as u64;

/// What a descriptor says. Two are equal if they say the same, in whatever form they said it.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// The data image.
    pub image: ImageRef,
    /// The bitmaps, in the order of the descriptor; names are unique. A new one goes to the end.
    pub bitmaps: Vec<Bitmap>,
    /// `ext-soft-id`: which image this is.
    pub id: Option<Id>,
    /// `ext-soft-generation`: grows by one at each open for writing.
    pub generation: u64,
    /// `ext-soft-size`: the size of the disk in bytes at the last commit, to find a torn resize.
    pub size: Option<u64>,
    /// `ext-soft-durability`: when a mark is durable.
    pub durability: Durability,
    /// `ext-soft-stamp`: the data image as it was at the last clean close.
    pub stamp: Option<Identity>,
    /// `ext-soft-point`: the backup point that this image is, if it is one.
    pub point: Option<Point>,
    /// `ext-hard-in-use`: who has it open for writing, or had when it crashed.
    pub in_use: Option<InUse>,
    /// What a rewrite keeps of the text that this came from.
    original: shape::Kept,
}

/// A file and its format: `{ "file": ..., "format": ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// The name, relative to the descriptor's directory.
    pub file: String,
    /// The format, never probed.
    pub format: Format,
}

/// The formats of a data or backing image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk and nothing else.
    Raw,
    /// An image with a descriptor; only as a backing image.
    Qbm,
}

/// A bitmap of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Its name: 1 to 1023 bytes of UTF-8 without control characters.
    pub name: String,
    /// Bytes of the disk that one bit stands for.
    pub granularity: Granularity,
    /// What its bits mean.
    pub kind: BitmapKind,
    /// Its files, 1 to 8; the bitmap is their union, and the last one records.
    /// The first is the member `file`, the others are `ext-hard-segments`.
    pub segments: Vec<SegmentRef>,
    /// `ext-hard-disabled`: whether it records nothing at present.
    pub disabled: bool,
    /// `ext-soft-doubt`: why ranges count as changed that may not be.
    pub doubt: Option<Doubt>,
    /// `ext-soft-seal`: the checksums of its file, as a clean close left it.
    pub seal: Option<SealRef>,
}

/// The checksums of a bitmap file, and of which state of it they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealRef {
    /// The name of the file that has them.
    pub file: String,
    /// The generation of the image. In any other they tell nothing.
    pub generation: u64,
}

/// What the bits of a bitmap mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BitmapKind {
    /// 1: changed since the bitmap's point in time.
    Dirty,
    /// 1: the cluster is in the data image; 0: it is in `backing`, or zeroes past its end.
    Allocation {
        /// The backing image; without one, clusters with a 0 bit read as zeroes.
        backing: Option<ImageRef>,
    },
}

/// One file of a bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// The name of the file.
    pub file: String,
    /// `ext-soft-point` of the bitmap, or `point` of a later segment: the backup point at which
    /// it began to record, if that is one.
    pub point: Option<Id>,
}

/// When a mark must be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the write that it is for: after a crash all marks are there.
    #[default]
    Exact,
    /// At a clean close only: after a crash all granules count as changed.
    Close,
}

impl Durability {
    /// All of them, for parsing.
    pub const ALL: [Self; 2] = [Self::Exact, Self::Close];
}

/// Why a bitmap has marks that nothing was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The data image was changed while no one tracked it.
    DataChanged,
    /// The bitmap's file was gone.
    SegmentMissing,
    /// The bitmap's file was shorter than the disk needs.
    SegmentTooShort,
    /// The bitmap's file had marks past the end of the disk.
    SegmentExcess,
    /// A page of the bitmap's file could not be read.
    SegmentUnreadable,
    /// A page of the bitmap's file was not what it was when it was sealed.
    SegmentDamaged,
    /// The seal of the bitmap's file was damaged.
    SealDamaged,
    /// The image crashed under [`Durability::Close`].
    NotStored,
    /// A sync of the data image failed while it was open.
    DataSyncFailed,
}

impl Doubt {
    /// All of them, for parsing.
    pub const ALL: [Self; 9] = [
        Self::DataChanged,
        Self::SegmentMissing,
        Self::SegmentTooShort,
        Self::SegmentExcess,
        Self::SegmentUnreadable,
        Self::SegmentDamaged,
        Self::SealDamaged,
        Self::NotStored,
        Self::DataSyncFailed,
    ];

    /// The stable word for programs, as it stands in the descriptor.
    pub fn code(self) -> &'static str {
        match self {
            Self::DataChanged => "data-changed",
            Self::SegmentMissing => "bitmap-missing",
            Self::SegmentTooShort => "bitmap-too-short",
            Self::SegmentExcess => "bitmap-excess",
            Self::SegmentUnreadable => "bitmap-unreadable",
            Self::SegmentDamaged => "bitmap-damaged",
            Self::SealDamaged => "seal-damaged",
            Self::NotStored => "not-stored",
            Self::DataSyncFailed => "data-sync-failed",
        }
    }

    /// The sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::DataChanged => "the data image was changed while its changes were not tracked",
            Self::SegmentMissing => "the bitmap's file was gone",
            Self::SegmentExcess => "the bitmap's file has marks past the end of the disk",
            Self::SegmentTooShort => "the bitmap's file is shorter than the disk needs",
            Self::SegmentUnreadable => "a part of the bitmap's file could not be read",
            Self::SegmentDamaged => "the bitmap's file is not what it was at the last close",
            Self::SealDamaged => "the seal of the bitmap's file is damaged",
            Self::NotStored => "durability is 'close', and the image was not closed cleanly",
            Self::DataSyncFailed => "a sync of the data image failed",
        }
    }
}

/// Who has an image open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Fresh at each open.
    pub opener: Id,
    /// The process id.
    pub pid: u32,
    /// The program's name.
    pub program: String,
    /// The boot of the machine.
    pub boot: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether a sync of the data image has failed since.
    pub data_sync_failed: bool,
}

/// A backup point: an image that holds a disk as it was at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which point.
    pub id: Id,
    /// The point before it, which is its backing image; `None` for a full backup.
    pub parent: Option<Id>,
    /// When it was taken.
    pub created: Timestamp,
    /// The image that was backed up.
    pub image: Id,
    /// The bitmap that said what to store.
    pub bitmap: String,
    /// Bytes of the disk that it stores.
    pub stored: u64,
    /// BLAKE3 of the digests of its blocks and of its allocation bitmap, 64 hexadecimal digits.
    pub digest: String,
    /// The file that has the digests of its blocks.
    pub digests: String,
    /// Bytes of the disk that one of these is taken of.
    pub block: Granularity,
}

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        // Taken apart, so that a new field cannot be forgotten here.
        let Self {
            image,
            bitmaps,
            id,
            generation,
            size,
            durability,
            stamp,
            point,
            in_use,
            original: _,
        } = self;
        *image == other.image
            && *bitmaps == other.bitmaps
            && *id == other.id
            && *generation == other.generation
            && *size == other.size
            && *durability == other.durability
            && *stamp == other.stamp
            && *point == other.point
            && *in_use == other.in_use
    }
}

impl Eq for Descriptor {}

impl Descriptor {
    /// A descriptor without bitmaps.
    pub fn new(image: ImageRef) -> Self {
        Self {
            image,
            bitmaps: Vec::new(),
            id: None,
            generation: 0,
            size: None,
            durability: Durability::default(),
            stamp: None,
            point: None,
            in_use: None,
            original: shape::Kept::default(),
        }
    }

    /// The bitmap `name`.
    pub fn bitmap(&self, name: &str) -> Option<&Bitmap> {
        self.bitmaps.iter().find(|bitmap| bitmap.name == name)
    }

    /// The bitmap `name`, to change it.
    pub fn bitmap_mut(&mut self, name: &str) -> Option<&mut Bitmap> {
        self.bitmaps.iter_mut().find(|bitmap| bitmap.name == name)
    }

    /// The names of all its files: of the data image, of the bitmaps and their seals, of what is
    /// behind it, and of the digests.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let images = std::iter::once(&self.image).chain(self.backing());
        let images = images.map(|image| image.file.as_str());
        let digests = self.point.iter().map(|point| point.digests.as_str());
        let seals = self.bitmaps.iter().filter_map(|bitmap| bitmap.seal.as_ref());
        images
            .chain(self.bitmaps.iter().flat_map(Bitmap::files))
            .chain(seals.map(|seal| seal.file.as_str()))
            .chain(digests)
    }

    /// The file that has the seal of `bitmap`, which is one of this descriptor, if it is sealed as it
    /// is now.
    pub fn seal_of<'a>(&self, bitmap: &'a Bitmap) -> Option<&'a str> {
        let seal = bitmap.seal.as_ref()?;
        let present = seal.generation == self.generation && bitmap.segments.len() == 1;
        (present && self.in_use.is_none()).then_some(seal.file.as_str())
    }

    /// The image behind this one.
    pub fn backing(&self) -> Option<&ImageRef> {
        match &self.allocation()?.kind {
            BitmapKind::Allocation { backing } => backing.as_ref(),
            BitmapKind::Dirty => None,
        }
    }

    /// The allocation bitmap, of which there is at most one.
    pub fn allocation(&self) -> Option<&Bitmap> {
        self.bitmaps.iter().find(|bitmap| bitmap.kind != BitmapKind::Dirty)
    }
}

/// The name `file` as the descriptor `name` means it: beside itself.
pub fn beside(name: &str, file: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, _)) if !file.starts_with('/') => format!("{folder}/{file}"),
        _ => file.to_owned(),
    }
}

impl Bitmap {
    /// The names of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|segment| segment.file.as_str())
    }
}
