//! Points in time: a backup reads the marks up to one, while a successor records what follows.

use std::sync::Arc;

use super::Image;
use super::bitmaps::{Held, free};
use super::switch::Plan;
use super::transaction::plan_collapse;
use crate::bits::Bits;
use crate::descriptor::Doubt;
use crate::mutants::{self, Mutant};
use crate::track::segment::Segment;
use crate::{Access, Directory, Error, Granularity, Id, Persist, Result, Storage};

/// What a bitmap held at a point in time.
///
/// Having one proves that the point's successor records durably, so that the marks here need
/// never be looked at again once the point is stored. Give it to [`Image::settle_point`]; while it
/// is out, nobody else can change the bitmap.
#[derive(Debug)]
pub struct FrozenPoint<F> {
    bitmap: String,
    point: Id,
    parent: Option<Id>,
    doubt: Option<Doubt>,
    size: u64,
    segment: Arc<Segment<F>>,
}

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durably stored: the bitmap is relative to it from now on.
    Stored,
    /// It is not: the bitmap keeps all its marks.
    Abandoned,
}

impl<F> FrozenPoint<F> {
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
}

impl<D: Directory> Image<D> {
    /// Takes the point `point` of the bitmap `name`: from here on a successor records.
    ///
    /// All writes that have returned are in the point, and are durable.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::BitmapNotFound`], [`Error::BitmapBusy`],
    /// [`Error::DataSyncFailed`], or an error of the storage; the bitmap is then as it was.
    pub async fn begin_point(&self, name: &str, point: Id) -> Result<FrozenPoint<D::File>> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        let mut control = self.control.lock().await;
        let bitmap = control.free(name)?;
        if bitmap.disabled {
            return Err(Error::unusable(&self.name, format!("bitmap '{name}' is disabled")));
        }
        let (parent, doubt) = (bitmap.segments[0].point, bitmap.doubt);
        let mut plan = Plan::of(&control, self.size());
        if let Err(error) = self.plan_successor(&mut plan, name, point).await {
            self.forget_fresh(plan).await;
            return Err(error);
        }
        self.switch_to(&mut control, plan).await?;
        let bitmap = control.free(name)?;
        bitmap.busy = Some(point);
        let (_successor, frozen) = bitmap.segments.split_last().expect("it has a successor");
        let segment = Arc::clone(&frozen[0].segment);
        for held in &frozen[1..] {
            segment.wanted.union(&held.segment.wanted);
        }
        let (bitmap, size) = (name.to_owned(), self.size());
        Ok(FrozenPoint { bitmap, point, parent, doubt, size, segment })
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
        // Not for the first point of all: no backup would miss the marks of before it.
        let follows = outcome == Outcome::Stored && segments[0].point.is_some();
        if follows && mutants::planted(Mutant::ClearInPlace) {
            return clear_in_place(&segments[0]).await.map_err(Error::io(name, "clear"));
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

/// The bug of taking marks away in place, while the descriptor names their file.
async fn clear_in_place<F: Storage>(held: &Held<F>) -> std::io::Result<()> {
    use crate::Buffer;
    let length = usize::try_from(held.segment.wanted.file_len()).expect("a small bitmap");
    held.segment.file().file.write_at(0, Buffer::zeroed(length), Persist::Now).await.map(drop)
}
