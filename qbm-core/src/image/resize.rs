//! Resizing: the data and every bitmap.
//!
//! Each bitmap goes over to a file of the new length. The length of the data *is* the size of the
//! disk, and a bitmap that is too short for it counts as marked where it is missing: so a crash
//! between the data and the descriptor leaves the old size or the new one, and no lost mark.
//!
//! Nothing can be guessed of an allocation bitmap. So an overlay that was in use has the size that
//! the descriptor says, and the next open cuts the data to that.

use std::cmp;
use std::sync::Arc;

use super::Image;
use super::bitmaps::{Control, Held};
use super::switch::{Plan, Source, Union};
use crate::mutants::{self, Mutant};
use crate::sync::{AtomicU64, Ordering};
use crate::track::clusters::Clusters;
use crate::track::segment::Segment;
use crate::units::MAX_SIZE;
use crate::{Access, ByteRange, Directory, Error, Result, Storage};

impl<D: Directory> Image<D> {
    /// Makes the disk `size` bytes long. What is added reads as zeroes and is marked.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::BitmapBusy`], [`Error::OutOfRange`],
    /// [`Error::TooManyGranules`], or an error of the storage. The disk then has its old size, or
    /// the new one where the data could not be cut to it any more.
    pub async fn resize(&self, size: u64) -> Result<()> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        if size > MAX_SIZE {
            return Err(Error::OutOfRange { range: ByteRange::new(MAX_SIZE, 0), size: MAX_SIZE });
        }
        let mut control = self.control.lock().await;
        if let Some(busy) = control.bitmaps.iter().find(|bitmap| bitmap.busy.is_some()) {
            return Err(Error::BitmapBusy(busy.name.clone()));
        }
        if control.watches.iter().any(|watch| !watch.is_over()) {
            return Err(Error::unusable(&self.name, "a job follows what is written to it"));
        }
        self.settle_length().await?;
        // First writes of clusters wait until the end; they hold no ticket meanwhile.
        let claim = match &self.clusters {
            Some(clusters) => Some(clusters.claim_all(self.data()).await),
            None => None,
        };
        let mut plan = Plan::of(&control, size);
        let resized = match self.plan_lengths(&mut plan).await {
            Ok(()) if size < self.size() => self.shrink(&mut control, plan).await,
            Ok(()) => self.grow(&mut control, plan).await,
            Err(error) => {
                self.forget_fresh(plan).await;
                Err(error)
            }
        };
        if let Some(claim) = claim {
            claim.release();
        }
        resized
    }

    /// A segment of the new length for every bitmap.
    async fn plan_lengths(&self, plan: &mut Plan<D::File>) -> Result<()> {
        if let Some(clusters) = &self.clusters {
            plan.allocation = Some(self.resized_allocation(clusters, plan.size).await?);
        }
        for index in 0..plan.bitmaps.len() {
            let bitmap = &plan.bitmaps[index];
            let (name, granularity) = (bitmap.name.clone(), bitmap.granularity);
            let persistence = bitmap.persistence();
            let into = self.plan_segment(plan, &name, granularity, persistence).await?;
            // The old last granule too: its end is new where it was partial.
            let old_end = self.size() / granularity.bytes();
            into.wanted.set(old_end.min(into.wanted.len())..into.wanted.len());
            let bitmap = &mut plan.bitmaps[index];
            let point = bitmap.segments[0].point;
            for held in bitmap.segments.drain(..) {
                let from = Source::Segment(held.segment);
                plan.unions.push(Union { from, into: Arc::clone(&into) });
            }
            bitmap.segments.push(Held { segment: into, point });
        }
        Ok(())
    }

    /// An allocation bitmap for a disk of `size` bytes, durable and not named yet. Under a claim on
    /// all clusters.
    ///
    /// What is added is allocated and so reads as zeroes, also where what is behind goes on.
    async fn resized_allocation(
        &self,
        clusters: &Clusters<D::File>,
        size: u64,
    ) -> Result<Arc<Segment<D::File>>> {
        if size > self.size() {
            self.allocate_last(clusters).await?;
        }
        // Then all that is complete is settled, and may be written.
        self.flush().await?;
        let old = clusters.segment();
        let segment = self.create_segment(&old.bitmap, old.granularity, size).await?;
        let segment = Arc::new(segment.relaxed(false));
        segment.wanted.union(&old.wanted);
        segment.wanted.set(old.wanted.len().min(segment.wanted.len())..segment.wanted.len());
        segment.note_all();
        if let Err(error) = self.commit_all(&segment).await {
            self.remove_files(&[segment.file().name.clone()]).await;
            return Err(error);
        }
        Ok(segment)
    }

    async fn grow(&self, control: &mut Control<D::File>, plan: Plan<D::File>) -> Result<()> {
        let size = plan.size;
        let extended = async {
            self.prepare(control, &plan).await?;
            self.data().set_len(size).await.map_err(Error::io(self.chain.data_name(), "resize"))?;
            // Before the descriptor says so. A crash here leaves the new size and short bitmaps.
            self.flush().await
        };
        if let Err(error) = extended.await {
            self.give_up(control, &plan).await;
            return Err(error);
        }
        let gone = self.decide(control, plan).await?;
        self.remove_files(&gone).await;
        Ok(())
    }

    async fn shrink(&self, control: &mut Control<D::File>, plan: Plan<D::File>) -> Result<()> {
        let new = plan.size;
        // First: once the writes under way are drained, none reaches past the new end.
        let shrunk = Shrunk::to(&self.size, new);
        let shrunk = mutants::without(Mutant::SizeAfterDrain).then_some(shrunk);
        self.prepare_or_give_up(control, &plan).await?;
        let gone = self.decide(control, plan).await?;
        if let Some(shrunk) = shrunk {
            shrunk.keep();
        }
        self.remove_files(&gone).await;
        // A crash here leaves the old size, with bitmaps that count as marked past the new one.
        let cut = self.data().set_len(new).await;
        cut.map_err(Error::io(self.chain.data_name(), "resize"))?;
        self.flush().await
    }

    /// Ends a resize that failed or was dropped half-way: the data gets the size of the disk.
    pub(super) async fn settle_length(&self) -> Result<()> {
        let (name, size) = (self.chain.data_name(), self.size());
        let length = self.data().len().await.map_err(Error::io(name, "stat"))?;
        match length.cmp(&size) {
            cmp::Ordering::Equal => Ok(()),
            // None of ours leaves it so. Not made whole again: the next open tells by the size.
            cmp::Ordering::Less => {
                Err(Error::unusable(name, "somebody has cut it while it was open"))
            }
            cmp::Ordering::Greater => {
                // The descriptor first: the one on the medium may have bitmaps of the other length,
                // and marks past the end of the data would make them doubtful.
                self.commit_edit(|_| {}).await?;
                self.data().set_len(size).await.map_err(Error::io(name, "resize"))
            }
        }
    }
}

/// A size that is smaller for now, and the old one again when this is dropped.
struct Shrunk<'a> {
    size: &'a AtomicU64,
    old: u64,
}

impl<'a> Shrunk<'a> {
    fn to(size: &'a AtomicU64, new: u64) -> Self {
        Self { size, old: size.swap(new, Ordering::AcqRel) }
    }

    /// Lets the new size stay.
    fn keep(mut self) {
        self.old = self.size.load(Ordering::Acquire);
    }
}

impl Drop for Shrunk<'_> {
    fn drop(&mut self) {
        self.size.store(self.old, Ordering::Release);
    }
}
