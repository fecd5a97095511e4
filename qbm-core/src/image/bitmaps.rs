//! The dirty bitmaps of an open image, as its operations see them.

use std::sync::Arc;

use super::Image;
use crate::bits::Bits;
use crate::descriptor::{self, BitmapKind, Descriptor, Doubt, SegmentRef};
use crate::track::duties::Duties;
use crate::track::hold::Hold;
use crate::track::segment::Segment;
use crate::track::shield::Shield;
use crate::track::watch::Watch;
use crate::{Directory, Error, Granularity, Id, Result};

/// The state that operations on bitmaps change, one at a time.
#[derive(Debug)]
pub(super) struct Control<F> {
    /// The dirty bitmaps, in the descriptor's order.
    pub(super) bitmaps: Vec<Tracked<F>>,
    /// Segments of a state whose commit failed: a crash may find that state, so they record until
    /// a later commit succeeds.
    pub(super) lingering: Vec<Arc<Segment<F>>>,
    /// What the points under way still need of the disk.
    pub(super) shields: Vec<(Id, Arc<Shield<F>>)>,
    /// What tells jobs of writes.
    pub(super) watches: Vec<Arc<Watch>>,
    /// What writes have to wait for.
    pub(super) holds: Vec<Arc<Hold>>,
}

/// A dirty bitmap of an open image: the union of its segments, the last of which records.
#[derive(Debug)]
pub(super) struct Tracked<F> {
    pub(super) name: String,
    pub(super) granularity: Granularity,
    /// Invariant: at least one.
    pub(super) segments: Vec<Held<F>>,
    pub(super) disabled: bool,
    pub(super) doubt: Option<Doubt>,
    /// The point that a job is about to store; until it is settled nobody else touches the bitmap.
    pub(super) busy: Option<Id>,
}

/// Whether a bitmap outlives the close of its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It is in the descriptor, and survives any crash.
    Persistent,
    /// It is in memory only, and gone when the image is closed.
    InMemory,
}

/// A segment, and the point at which it began to record.
#[derive(Debug)]
pub(super) struct Held<F> {
    pub(super) segment: Arc<Segment<F>>,
    pub(super) point: Option<Id>,
}

// Not derived: a file need not be `Clone` for a handle to it to be.
impl<F> Clone for Held<F> {
    fn clone(&self) -> Self {
        Self { segment: Arc::clone(&self.segment), point: self.point }
    }
}

impl<F> Clone for Tracked<F> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            granularity: self.granularity,
            segments: self.segments.clone(),
            disabled: self.disabled,
            doubt: self.doubt,
            busy: self.busy,
        }
    }
}

impl<F> Tracked<F> {
    /// The segment that records.
    pub(super) fn active(&self) -> &Held<F> {
        self.segments.last().expect("a bitmap has a segment")
    }

    /// Whether the descriptor has it. If not, it has one segment, in memory.
    pub(super) fn is_persistent(&self) -> bool {
        self.active().segment.is_stored()
    }

    pub(super) fn persistence(&self) -> Persistence {
        if self.is_persistent() { Persistence::Persistent } else { Persistence::InMemory }
    }

    /// As the descriptor has it.
    fn to_descriptor(&self) -> descriptor::Bitmap {
        let segments = self
            .segments
            .iter()
            .map(|held| SegmentRef { file: held.segment.file().name.clone(), point: held.point });
        descriptor::Bitmap {
            name: self.name.clone(),
            granularity: self.granularity,
            kind: BitmapKind::Dirty,
            segments: segments.collect(),
            disabled: self.disabled,
            doubt: self.doubt,
            seal: None,
        }
    }
}

/// Puts those of `bitmaps` that are persistent in place of the dirty bitmaps of `descriptor`; the
/// allocation bitmap stays.
pub(super) fn put_into<F>(bitmaps: &[Tracked<F>], descriptor: &mut Descriptor) {
    descriptor.bitmaps.retain(|bitmap| bitmap.kind != BitmapKind::Dirty);
    let persistent = bitmaps.iter().filter(|bitmap| bitmap.is_persistent());
    descriptor.bitmaps.extend(persistent.map(Tracked::to_descriptor));
}

/// The segments that record for `bitmaps`.
pub(super) fn recording<F>(bitmaps: &[Tracked<F>]) -> Vec<Arc<Segment<F>>> {
    let enabled = bitmaps.iter().filter(|bitmap| !bitmap.disabled);
    enabled.map(|bitmap| Arc::clone(&bitmap.active().segment)).collect()
}

impl<F> Control<F> {
    /// What a write owes while `recording` records.
    pub(super) fn duties(&self, recording: Vec<Arc<Segment<F>>>) -> Duties<F> {
        let shields = self.shields.iter().map(|(_, shield)| Arc::clone(shield)).collect();
        Duties { recording, shields, watches: self.watches.clone(), holds: self.holds.clone() }
    }

    /// Forgets what jobs that have ended wanted of writes.
    pub(super) fn forget_ended(&mut self) {
        self.watches.retain(|watch| !watch.is_over());
        self.holds.retain(|hold| !hold.is_released());
    }

    /// The bitmap `name`, whoever holds it.
    pub(super) fn bitmap(&self, name: &str) -> Result<&Tracked<F>> {
        let bitmap = self.bitmaps.iter().find(|bitmap| bitmap.name == name);
        bitmap.ok_or_else(|| Error::BitmapNotFound(name.to_owned()))
    }

    /// The bitmap `name`, if no job holds it.
    pub(super) fn free(&mut self, name: &str) -> Result<&mut Tracked<F>> {
        free(&mut self.bitmaps, name)
    }
}

/// The bitmap `name` of `bitmaps`, if no job holds it.
pub(super) fn free<'a, F>(bitmaps: &'a mut [Tracked<F>], name: &str) -> Result<&'a mut Tracked<F>> {
    let bitmap = bitmaps
        .iter_mut()
        .find(|bitmap| bitmap.name == name)
        .ok_or_else(|| Error::BitmapNotFound(name.to_owned()))?;
    match bitmap.busy {
        None => Ok(bitmap),
        Some(_) => Err(Error::BitmapBusy(name.to_owned())),
    }
}

/// What is known of a dirty bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// Bytes that a bit stands for.
    pub granularity: Granularity,
    /// Marked granules.
    pub marked: u64,
    /// Whether it records nothing at present.
    pub disabled: bool,
    /// Whether it outlives the close.
    pub persistent: bool,
    /// Whether a job holds it.
    pub busy: bool,
    /// Why granules count as changed that may not be.
    pub doubt: Option<Doubt>,
    /// The points at which its segments began, oldest first; the first is what it is relative to.
    pub points: Vec<Option<Id>>,
    /// Whether commits of it have failed since the image was opened.
    pub failing: bool,
}

/// The marks of a bitmap, taken out of its image.
#[derive(Clone, Debug)]
pub struct Marks {
    /// One bit a granule.
    pub bits: Arc<Bits>,
    /// Bytes that a bit stands for.
    pub granularity: Granularity,
    /// Why granules count as changed that may not be.
    pub doubt: Option<Doubt>,
}

impl<D: Directory> Image<D> {
    /// All dirty bitmaps, in the descriptor's order.
    pub async fn bitmaps(&self) -> Vec<BitmapInfo> {
        let control = self.control.lock().await;
        control.bitmaps.iter().map(info).collect()
    }

    /// A copy of the marks of the bitmap `name`: the union of its segments.
    ///
    /// # Errors
    ///
    /// [`Error::BitmapNotFound`].
    pub async fn bitmap_bits(&self, name: &str) -> Result<Bits> {
        let control = self.control.lock().await;
        control.bitmap(name).map(union)
    }

    /// A copy of the bitmap `name`, to be merged into one of another image.
    ///
    /// # Errors
    ///
    /// [`Error::BitmapNotFound`].
    pub async fn marks(&self, name: &str) -> Result<Marks> {
        let control = self.control.lock().await;
        let bitmap = control.bitmap(name)?;
        let bits = Arc::new(union(bitmap));
        Ok(Marks { bits, granularity: bitmap.granularity, doubt: bitmap.doubt })
    }
}

fn info<F>(bitmap: &Tracked<F>) -> BitmapInfo {
    let marked = match bitmap.segments.as_slice() {
        [only] => only.segment.wanted.count(),
        _ => union(bitmap).count(),
    };
    BitmapInfo {
        name: bitmap.name.clone(),
        granularity: bitmap.granularity,
        marked,
        disabled: bitmap.disabled,
        persistent: bitmap.is_persistent(),
        busy: bitmap.busy.is_some(),
        doubt: bitmap.doubt,
        points: bitmap.segments.iter().map(|held| held.point).collect(),
        failing: bitmap.segments.iter().any(|held| held.segment.is_poisoned()),
    }
}

/// The marks of all segments of `bitmap`.
pub(super) fn union<F>(bitmap: &Tracked<F>) -> Bits {
    let bits = Bits::new(bitmap.active().segment.wanted.len());
    for held in &bitmap.segments {
        bits.union(&held.segment.wanted);
    }
    bits
}
