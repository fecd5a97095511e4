//! Points in time: a backup reads the marks up to one, while a successor records what follows.
//!
//! Where the guest goes on writing meanwhile, the point is a *live* one: what it still needs of the
//! disk is copied to a [`Fleece`] before it is written over.

use std::sync::Arc;

use super::bitmaps::{Control, Persistence, free};
use super::map::marked_extents;
use super::switch::Plan;
use super::transaction::plan_collapse;
use super::{Extent, Image, MarkedExtent};
use crate::bits::{Bits, runs_of_union};
use crate::descriptor::Doubt;
use crate::mutants::{self, Mutant};
use crate::track::segment::Segment;
use crate::track::shield::{Fleece, Shield};
use crate::{Buffer, ByteRange, Directory, Error, Granularity, Id, Persist, Result, Storage};

/// What a bitmap held at a point in time.
///
/// Having one proves that the point's successor records durably, so that the marks here need
/// never be looked at again once the point is stored. Give it to [`Image::settle_point`]; while it
/// is out, nobody else can change the bitmap. With it ends whatever reads a live point.
#[derive(Debug)]
pub struct FrozenPoint<F: Storage> {
    bitmap: String,
    point: Id,
    parent: Option<Id>,
    doubt: Option<Doubt>,
    view: PointView<F>,
}

/// The disk as it was at a point, and what its bitmap marked. Clones are views of the same point.
///
/// Of a point that is not live it shows what has been written since, too.
#[derive(Debug)]
pub struct PointView<F> {
    size: u64,
    segment: Arc<Segment<F>>,
    shield: Option<Arc<Shield<F>>>,
}

// Not derived: a file need not be `Clone` for a view to be.
impl<F> Clone for PointView<F> {
    fn clone(&self) -> Self {
        let (segment, shield) = (Arc::clone(&self.segment), self.shield.clone());
        Self { size: self.size, segment, shield }
    }
}

/// A point that a transaction is to take.
#[derive(Debug)]
pub struct NewPoint<F> {
    /// The bitmap that it is of.
    pub bitmap: String,
    /// The granularity with which the bitmap is added if there is none.
    pub add: Option<Granularity>,
    /// Its id.
    pub id: Id,
    /// Where what it needs and a guest writes over goes; without one, nobody may write meanwhile.
    pub fleece: Option<Arc<Fleece<F>>>,
}

/// A point that comes with a plan.
pub(super) struct PlannedPoint<F: Storage> {
    point: FrozenPoint<F>,
    /// The segments whose marks it has besides those of its own.
    others: Vec<Arc<Segment<F>>>,
}

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durably stored: the bitmap is relative to it from now on.
    Stored,
    /// It is not: the bitmap keeps all its marks.
    Abandoned,
}

impl<F: Storage> PointView<F> {
    /// The size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that a mark stands for.
    pub fn granularity(&self) -> Granularity {
        self.segment.granularity
    }

    /// The marks.
    pub fn bits(&self) -> &Bits {
        &self.segment.wanted
    }

    /// What is marked of `range`: see [`Image::marked_extents`].
    pub fn marked_extents(&self, range: ByteRange, most: usize) -> Vec<MarkedExtent> {
        marked_extents(&[self.bits()], self.granularity(), range, most)
    }

    /// Says that nobody will read `range` of the point any more, so that the guest need not wait for
    /// it to be copied.
    pub fn spare(&self, range: ByteRange) {
        if let Some(shield) = &self.shield {
            shield.spare(range);
        }
    }

    /// The same of all that is not marked.
    pub fn spare_unmarked(&self) {
        let marks = [self.bits()];
        for run in runs_of_union(&marks, 0..self.bits().len()).filter(|run| !run.set) {
            self.spare(self.granularity().bytes_of(run.bits, self.size));
        }
    }
}

impl<F: Storage> Drop for FrozenPoint<F> {
    /// Whatever reads it must not take for the point what is written from now on.
    fn drop(&mut self) {
        if let Some(shield) = &self.view.shield {
            shield.fail("it is settled");
        }
    }
}

impl<F: Storage> FrozenPoint<F> {
    /// The bitmap that it is a point of.
    pub fn bitmap(&self) -> &str {
        &self.bitmap
    }

    /// Which point it is.
    pub fn point(&self) -> Id {
        self.point
    }

    /// The point that the marks are relative to; without one only a full backup is right.
    pub fn parent(&self) -> Option<Id> {
        self.parent
    }

    /// Why granules count as changed that may not be.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// The size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.view.size
    }

    /// Bytes that a mark stands for.
    pub fn granularity(&self) -> Granularity {
        self.view.granularity()
    }

    /// The marks.
    pub fn bits(&self) -> &Bits {
        self.view.bits()
    }

    /// The disk as it was at the point.
    pub fn view(&self) -> &PointView<F> {
        &self.view
    }
}

impl<D: Directory> Image<D> {
    /// Takes the point `point` of the bitmap `name`: from here on a successor records.
    ///
    /// All writes that have returned are in the point, and are durable. Its marks change no more, but
    /// what is written from now on may be seen in it: it is the disk of an instant only if nobody
    /// writes.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::BitmapNotFound`], [`Error::BitmapBusy`],
    /// [`Error::DataSyncFailed`], or an error of the storage; the bitmap is then as it was.
    pub async fn begin_point(&self, name: &str, point: Id) -> Result<FrozenPoint<D::File>> {
        self.take_point(name, point, None).await
    }

    /// Takes a point as [`begin_point`](Self::begin_point) does, which is the disk of an instant
    /// whatever is written from now on: what it still needs is copied to `fleece` first.
    ///
    /// Writes that are under way when it is called may be in the point, in part, or not.
    ///
    /// # Errors
    ///
    /// As for [`begin_point`](Self::begin_point).
    pub async fn begin_live_point(
        &self,
        name: &str,
        point: Id,
        fleece: Arc<Fleece<D::File>>,
    ) -> Result<FrozenPoint<D::File>> {
        self.take_point(name, point, Some(fleece)).await
    }

    async fn take_point(
        &self,
        bitmap: &str,
        id: Id,
        fleece: Option<Arc<Fleece<D::File>>>,
    ) -> Result<FrozenPoint<D::File>> {
        let point = NewPoint { bitmap: bitmap.to_owned(), add: None, id, fleece };
        let taken = self.prepare_with_point(&[], point).await?.commit().await?;
        Ok(taken.expect("it was to take one"))
    }

    /// Plans `new`, which nobody has until the plan is decided.
    pub(super) async fn plan_point(
        &self,
        plan: &mut Plan<D::File>,
        new: NewPoint<D::File>,
    ) -> Result<PlannedPoint<D::File>> {
        let NewPoint { bitmap: name, add, id, fleece } = new;
        if let (Some(granularity), false) = (add, plan.bitmaps.iter().any(|it| it.name == name)) {
            self.plan_add(plan, &name, (granularity, Persistence::Persistent), false).await?;
        }
        let bitmap = free(&mut plan.bitmaps, &name)?;
        if bitmap.disabled {
            return Err(Error::unusable(&self.name, format!("bitmap '{name}' is disabled")));
        }
        if !bitmap.is_persistent() {
            let what = format!("bitmap '{name}' is not persistent, and a point is of one that is");
            return Err(Error::unusable(&self.name, what));
        }
        let (parent, doubt) = (bitmap.segments[0].point, bitmap.doubt);
        // What is copied at a time stays short, however coarse the bitmap is.
        let granularity = bitmap.granularity.min(Granularity::DEFAULT);
        let size = plan.size;
        let shield = fleece.map(|fleece| Arc::new(Shield::new(fleece, granularity, size)));
        plan.shield = shield.clone().map(|shield| (id, shield));
        self.plan_successor(plan, &name, id).await?;
        let bitmap = free(&mut plan.bitmaps, &name)?;
        let (_successor, frozen) = bitmap.segments.split_last().expect("it has a successor");
        let segment = Arc::clone(&frozen[0].segment);
        let others = frozen[1..].iter().map(|held| Arc::clone(&held.segment)).collect();
        let view = PointView { size, segment, shield };
        let point = FrozenPoint { bitmap: name, point: id, parent, doubt, view };
        Ok(PlannedPoint { point, others })
    }

    /// Takes a point whose plan was decided: from now on neither its marks nor its disk change.
    pub(super) async fn freeze(
        &self,
        control: &mut Control<D::File>,
        planned: PlannedPoint<D::File>,
    ) -> FrozenPoint<D::File> {
        let PlannedPoint { point, others } = planned;
        if mutants::without(Mutant::PointUndrained) {
            // Writes that began before the descriptor named the point mark the old segments too, and
            // do not know its shield. After them neither the marks nor a live point change any more.
            self.gate.drain(self.data()).await;
        }
        others.iter().for_each(|other| point.bits().union(&other.wanted));
        let bitmap = control.free(&point.bitmap).expect("it was planned in this turn");
        bitmap.busy = Some(point.point);
        point
    }

    /// Fills `buffer` from `offset` of the disk as it was at the point of `view`.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), and [`Error::Unusable`] if the point is lost, because its
    /// fleece is full or has failed, or settled.
    pub async fn read_at_point(
        &self,
        view: &PointView<D::File>,
        offset: u64,
        buffer: Buffer,
    ) -> Result<Buffer> {
        self.check_range(offset, buffer.len() as u64)?;
        match &view.shield {
            Some(shield) => shield.read_at((&self.name, &self.chain), offset, buffer).await,
            None => self.chain.read_at(offset, buffer).await,
        }
    }

    /// What the first bytes of `range` were at the point of `view`, as far as they were alike; bytes
    /// that have been copied count as data. `range` is not empty.
    ///
    /// # Errors
    ///
    /// Those of [`block_status`](Self::block_status) and [`read_at_point`](Self::read_at_point).
    pub async fn block_status_at_point(
        &self,
        view: &PointView<D::File>,
        range: ByteRange,
    ) -> Result<Extent> {
        let now = self.block_status(range).await?;
        let Some(shield) = &view.shield else { return Ok(now) };
        let there = ByteRange::new(now.start, now.length);
        let (length, copied) = shield.first_copied(&self.name, there)?;
        let (present, data) = (now.present || copied, now.data || copied);
        Ok(Extent { length, present, data, ..now })
    }

    /// Says what became of a point.
    ///
    /// # Errors
    ///
    /// Any error of the storage. After a crash the bitmap is then relative to the point or to its
    /// parent, and right either way.
    pub async fn settle_point(&self, frozen: FrozenPoint<D::File>, outcome: Outcome) -> Result<()> {
        let name = frozen.bitmap.clone();
        {
            let mut control = self.control.lock().await;
            control.shields.retain(|(point, _)| *point != frozen.point);
            let bitmap = control.bitmaps.iter_mut().find(|bitmap| bitmap.name == name);
            bitmap.ok_or_else(|| Error::BitmapNotFound(name.clone()))?.busy = None;
        }
        self.settle_found(&name, frozen.point, outcome).await
    }

    /// Says what became of a point that was under way when the image was closed or crashed.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if no segment of the bitmap `name` began at `point`; otherwise as
    /// [`settle_point`](Self::settle_point).
    pub async fn settle_found(&self, name: &str, point: Id, outcome: Outcome) -> Result<()> {
        let mut control = self.control.lock().await;
        let segments = &control.free(name)?.segments;
        let began = segments.iter().position(|held| held.point == Some(point));
        let Some(began) = began else {
            let what = format!("bitmap '{name}' has no segment that began at point {point}");
            return Err(Error::unusable(&self.name, what));
        };
        if mutants::planted(Mutant::ClearInPlace) {
            // Not for the first point of all: no backup would miss the marks of before it.
            if let (Outcome::Stored, Some(_parent)) = (outcome, segments[0].point) {
                let (file, marks) = (segments[0].segment.file(), &segments[0].segment.wanted);
                let length = usize::try_from(marks.file_len()).expect("a small bitmap");
                let cleared = file.file.write_at(0, Buffer::zeroed(length), Persist::Now).await;
                return cleared.map(drop).map_err(Error::io(name, "clear"));
            }
        }
        let mut plan = Plan::of(&control, self.size());
        match outcome {
            Outcome::Stored => {
                let bitmap = free(&mut plan.bitmaps, name)?;
                bitmap.segments.drain(..began);
                bitmap.doubt = None;
            }
            Outcome::Abandoned => {
                let index = plan.bitmaps.iter().position(|bitmap| bitmap.name == name);
                plan_collapse(&mut plan, index.expect("found above"));
            }
        }
        self.switch_to(&mut control, plan).await
    }
}
