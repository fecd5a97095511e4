//! Operations on the bitmaps, several in one transaction, that happen wholly or not at all.

use std::sync::Arc;

use super::Image;
use super::bitmaps::{Control, Held, Marks, Persistence, Tracked, free};
use super::point::{FrozenPoint, NewPoint, Outcome, PlannedPoint};
use super::segment_file::{check_granules, check_together};
use super::switch::{Plan, Source, Union, recording_both};
use crate::bits::Bits;
use crate::descriptor::{Doubt, MAX_BITMAPS, check_bitmap_name};
use crate::mutants::{self, Mutant};
use crate::sync::AsyncMutexGuard;
use crate::track::hold::{Hold, Released};
use crate::track::segment::Segment;
use crate::{Access, Directory, Error, Granularity, Id, Result};

/// An operation on a bitmap. The names and meanings are those of QEMU's `block-dirty-bitmap-*`.
#[derive(Clone, Debug)]
pub enum BitmapAction {
    /// A new bitmap without marks, which records from now on unless it is disabled.
    Add {
        /// Its name: 1 to 1023 bytes without control characters, and new.
        name: String,
        /// Bytes that a bit stands for.
        granularity: Granularity,
        /// Whether it does not record yet.
        disabled: bool,
    },
    /// A new bitmap as by [`Add`](Self::Add), which is in memory only: it is gone when the image is closed.
    AddInMemory {
        /// Its name, as that of others.
        name: String,
        /// Bytes that a bit stands for.
        granularity: Granularity,
        /// Whether it does not record yet.
        disabled: bool,
    },
    /// The bitmap is in the descriptor with all its marks from now on, or in memory only.
    SetPersistence {
        /// Its name.
        name: String,
        /// What it is to be; it may be that already.
        persistence: Persistence,
    },
    /// The bitmap is gone, with its files.
    Remove(String),
    /// No granule is marked. The bitmap then belongs to no backup point.
    Clear(String),
    /// It records from now on.
    Enable(String),
    /// It records no more. The bitmap then belongs to no backup point.
    Disable(String),
    /// The marks of `source` are marks of `target` too.
    Merge {
        /// What is marked.
        target: String,
        /// What it is marked from; granularities may differ.
        source: String,
    },
    /// The marks of a bitmap of another image are marks of `target` too, as far as its disk goes.
    MergeMarks {
        /// What is marked.
        target: String,
        /// What it is marked from; granularities may differ.
        marks: Marks,
    },
}

/// Actions that can be done or given up at once: all that could be wrong with them has been found, and
/// all that takes time is done. Until then other operations on the bitmaps of the image wait; requests of
/// a guest do not.
///
/// When it is dropped, nothing is done, but files are left that only a repair removes.
#[must_use]
pub struct PreparedTransaction<'a, D: Directory> {
    image: &'a Image<D>,
    control: AsyncMutexGuard<'a, Control<D::File>>,
    plan: Plan<D::File>,
    point: Option<PlannedPoint<D::File>>,
}

/// Actions that are done, but for what may only be done once writes are not held any more.
struct Decided<'a, D: Directory> {
    image: &'a Image<D>,
    control: AsyncMutexGuard<'a, Control<D::File>>,
    gone: Vec<String>,
    point: Option<PlannedPoint<D::File>>,
}

impl<'a, D: Directory> PreparedTransaction<'a, D> {
    /// Does it; done means durable. Of the storage this needs one replace of the descriptor. Returns the
    /// point that it takes.
    ///
    /// # Errors
    ///
    /// Any error of that. The bitmaps are then as they were.
    pub async fn commit(self) -> Result<Option<FrozenPoint<D::File>>> {
        Ok(self.decide().await?.finish().await)
    }

    /// Gives it up: the bitmaps are as they were.
    pub async fn give_up(self) {
        self.image.give_up(&self.control, &self.plan).await;
    }

    async fn decide(mut self) -> Result<Decided<'a, D>> {
        let gone = self.image.decide(&mut self.control, self.plan).await?;
        Ok(Decided { image: self.image, control: self.control, gone, point: self.point })
    }

    /// Waits until no write is under way, and lets none begin before `hold` is released.
    async fn hold(&mut self, hold: &Arc<Hold>) {
        self.control.forget_ended();
        self.control.holds.push(Arc::clone(hold));
        let both = recording_both(&self.control, &self.plan);
        self.image.gate.switch(self.control.duties(both), self.image.data()).await;
    }
}

impl<D: Directory> Decided<'_, D> {
    async fn finish(mut self) -> Option<FrozenPoint<D::File>> {
        self.image.remove_files(&self.gone).await;
        match self.point {
            Some(point) => Some(self.image.freeze(&mut self.control, point).await),
            None => None,
        }
    }
}

/// Why transactions of several images were not done together.
#[derive(Debug)]
pub struct NotTogether {
    /// How many were done, from the first on, and cannot be taken back; their points are given up.
    pub done: usize,
    /// What the next one failed with.
    pub error: Error,
}

/// Does all of `parts`, each of another image, and returns the points that they take. Several points are of
/// one instant: where one has a write, all have what had returned before it began.
///
/// # Errors
///
/// An error of a medium at one of the last steps, one replace of a descriptor for each image.
pub async fn commit_together<D: Directory>(
    mut parts: Vec<PreparedTransaction<'_, D>>,
) -> Result<Vec<Option<FrozenPoint<D::File>>>, NotTogether> {
    let held = Writes::default();
    if parts.iter().filter(|part| part.point.is_some()).count() > 1 {
        for part in &mut parts {
            part.hold(&held.0).await;
        }
    }
    let (mut decided, mut failed) = (Vec::new(), None);
    let mut left = parts.into_iter();
    for part in left.by_ref() {
        match part.decide().await {
            Ok(part) => decided.push(part),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    // They go on, and copy first what the points need: all of them, by now.
    drop(held);
    let Some(error) = failed else {
        let mut points = Vec::new();
        for part in decided {
            points.push(part.finish().await);
        }
        return Ok(points);
    };
    for part in left {
        part.give_up().await;
    }
    let done = decided.len();
    for part in decided {
        let image = part.image;
        if let Some(point) = part.finish().await {
            // What cannot be settled now is by the next backup.
            let _settled = image.settle_point(point, Outcome::Abandoned).await;
        }
    }
    Err(NotTogether { done, error })
}

/// Writes that are held until this is dropped.
#[derive(Default)]
struct Writes(Arc<Hold>);

impl Drop for Writes {
    fn drop(&mut self) {
        self.0.release(Released::Here);
    }
}

impl<D: Directory> Image<D> {
    /// Does all of `actions`, in order, or none of them; done means durable.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::BitmapNotFound`], [`Error::BitmapExists`],
    /// [`Error::BitmapBusy`], [`Error::BitmapName`], [`Error::TooManyGranules`], or an error of
    /// the storage. After any of them the bitmaps are as they were.
    pub async fn transaction(&self, actions: &[BitmapAction]) -> Result<()> {
        self.prepare_transaction(actions).await?.commit().await.map(drop)
    }

    /// Does all of `actions`, in order, but for the last step, so that those of several images can be done
    /// together.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub async fn prepare_transaction(
        &self,
        actions: &[BitmapAction],
    ) -> Result<PreparedTransaction<'_, D>> {
        self.prepare_all(actions, None).await
    }

    /// The same, and takes `point` after all of them.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction) and [`begin_live_point`](Self::begin_live_point).
    pub async fn prepare_with_point(
        &self,
        actions: &[BitmapAction],
        point: NewPoint<D::File>,
    ) -> Result<PreparedTransaction<'_, D>> {
        self.prepare_all(actions, Some(point)).await
    }

    async fn prepare_all(
        &self,
        actions: &[BitmapAction],
        point: Option<NewPoint<D::File>>,
    ) -> Result<PreparedTransaction<'_, D>> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        let mut control = self.control.lock().await;
        let mut plan = Plan::of(&control, self.size());
        if mutants::planted(Mutant::PlanBeforeTurn) {
            drop(control);
            control = self.control.lock().await;
        }
        let point = match self.plan_all(&mut plan, actions, point).await {
            Ok(point) => point,
            Err(error) => {
                self.forget_fresh(plan).await;
                return Err(error);
            }
        };
        self.prepare_or_give_up(&control, &plan).await?;
        Ok(PreparedTransaction { image: self, control, plan, point })
    }

    async fn plan_all(
        &self,
        plan: &mut Plan<D::File>,
        actions: &[BitmapAction],
        point: Option<NewPoint<D::File>>,
    ) -> Result<Option<PlannedPoint<D::File>>> {
        for action in actions {
            self.plan_action(plan, action).await?;
        }
        match point {
            Some(point) => self.plan_point(plan, point).await.map(Some),
            None => Ok(None),
        }
    }

    async fn plan_action(&self, plan: &mut Plan<D::File>, action: &BitmapAction) -> Result<()> {
        match action {
            BitmapAction::Add { name, granularity, disabled } => {
                let disabled = *disabled;
                self.plan_add(plan, name, (*granularity, Persistence::Persistent), disabled).await
            }
            BitmapAction::AddInMemory { name, granularity, disabled } => {
                self.plan_add(plan, name, (*granularity, Persistence::InMemory), *disabled).await
            }
            BitmapAction::SetPersistence { name, persistence } => {
                self.plan_persistence(plan, name, *persistence).await
            }
            BitmapAction::Remove(name) => {
                free(&mut plan.bitmaps, name)?;
                plan.bitmaps.retain(|bitmap| bitmap.name != *name);
                plan.removed.push(name.clone());
                Ok(())
            }
            BitmapAction::Clear(name) => {
                let bitmap = free(&mut plan.bitmaps, name)?;
                let (granularity, persistence) = (bitmap.granularity, bitmap.persistence());
                let segment = self.plan_segment(plan, name, granularity, persistence).await?;
                let bitmap = free(&mut plan.bitmaps, name)?;
                bitmap.segments = vec![Held { segment, point: None }];
                bitmap.doubt = None;
                Ok(())
            }
            BitmapAction::Enable(name) => {
                free(&mut plan.bitmaps, name)?.disabled = false;
                Ok(())
            }
            BitmapAction::Disable(name) => {
                let bitmap = free(&mut plan.bitmaps, name)?;
                bitmap.disabled = true;
                // What is written from now on is not in it, so no backup may rely on it.
                bitmap.segments.iter_mut().for_each(|held| held.point = None);
                Ok(())
            }
            BitmapAction::Merge { target, source } => self.plan_merge(plan, target, source).await,
            BitmapAction::MergeMarks { target, marks } => {
                let sources = vec![Source::Marks(marks.clone())];
                self.plan_union(plan, target, (sources, marks.doubt)).await
            }
        }
    }

    pub(super) async fn plan_add(
        &self,
        plan: &mut Plan<D::File>,
        name: &str,
        (granularity, persistence): (Granularity, Persistence),
        disabled: bool,
    ) -> Result<()> {
        check_bitmap_name(name)
            .map_err(|what| Error::BitmapName { name: name.to_owned(), what })?;
        if self.book.lock().await.descriptor().allocation().is_some_and(|a| a.name == name)
            || plan.bitmaps.iter().any(|bitmap| bitmap.name == name)
        {
            return Err(Error::BitmapExists(name.to_owned()));
        }
        if plan.bitmaps.len() >= MAX_BITMAPS {
            let what = format!("it has {MAX_BITMAPS} bitmaps, and cannot have more");
            return Err(Error::unusable(&self.name, what));
        }
        let segment = self.plan_segment(plan, name, granularity, persistence).await?;
        plan.bitmaps.push(Tracked {
            name: name.to_owned(),
            granularity,
            segments: vec![Held { segment, point: None }],
            disabled,
            doubt: None,
            busy: None,
        });
        Ok(())
    }

    async fn plan_merge(&self, plan: &mut Plan<D::File>, target: &str, source: &str) -> Result<()> {
        let bitmap = free(&mut plan.bitmaps, source)?;
        let doubt = bitmap.doubt;
        let segments = bitmap.segments.iter().map(|held| Arc::clone(&held.segment));
        let sources = segments.map(Source::Segment).collect();
        self.plan_union(plan, target, (sources, doubt)).await
    }

    /// A merge makes a new segment: set in place, the marks would be there after a crash although
    /// the rest of the transaction is not.
    async fn plan_union(
        &self,
        plan: &mut Plan<D::File>,
        target: &str,
        (sources, doubt): (Vec<Source<D::File>>, Option<Doubt>),
    ) -> Result<()> {
        let bitmap = free(&mut plan.bitmaps, target)?;
        let (granularity, persistence) = (bitmap.granularity, bitmap.persistence());
        let into = self.plan_segment(plan, target, granularity, persistence).await?;
        let bitmap = free(&mut plan.bitmaps, target)?;
        let own = std::mem::take(&mut bitmap.segments);
        bitmap.doubt = bitmap.doubt.or(doubt);
        bitmap.segments = vec![Held { segment: Arc::clone(&into), point: own[0].point }];
        let own = own.into_iter().map(|held| Source::Segment(held.segment));
        plan.unions.extend(own.chain(sources).map(|from| Union { from, into: Arc::clone(&into) }));
        Ok(())
    }

    /// Carries all marks of a bitmap to where they are to be: once they are in a new file, the descriptor
    /// names that, and before it forgets an old one, they are in memory.
    async fn plan_persistence(
        &self,
        plan: &mut Plan<D::File>,
        name: &str,
        persistence: Persistence,
    ) -> Result<()> {
        let bitmap = free(&mut plan.bitmaps, name)?;
        if bitmap.persistence() == persistence {
            return Ok(());
        }
        let granularity = bitmap.granularity;
        let into = self.plan_segment(plan, name, granularity, persistence).await?;
        // In memory it belongs to no backup point: nobody could rely on that.
        let held = Held { segment: Arc::clone(&into), point: None };
        let own = std::mem::replace(&mut free(&mut plan.bitmaps, name)?.segments, vec![held]);
        let own = own.into_iter().map(|held| Source::Segment(held.segment));
        let unions = own.map(|from| Union { from, into: Arc::clone(&into) });
        plan.unions.extend(unions.filter(|_| mutants::without(Mutant::MarksLeft)));
        // Whichever it becomes, it is another bitmap to a descriptor that had one of that name.
        plan.removed.push(name.to_owned());
        Ok(())
    }

    /// A new segment for `bitmap`, for the size that the disk is to have.
    pub(super) async fn plan_segment(
        &self,
        plan: &mut Plan<D::File>,
        bitmap: &str,
        granularity: Granularity,
        persistence: Persistence,
    ) -> Result<Arc<Segment<D::File>>> {
        check_granules(granularity, plan.size)?;
        // With those that it may replace: until then they are in memory too.
        let held = plan.bitmaps.iter().flat_map(|bitmap| &bitmap.segments);
        let there = held.map(|held| held.segment.wanted.len());
        check_together(&self.name, there.chain([granularity.granules_of(plan.size)]).sum())?;
        let segment = match persistence {
            Persistence::Persistent => self.create_segment(bitmap, granularity, plan.size).await?,
            Persistence::InMemory => {
                let marks = Bits::new(granularity.granules_of(plan.size));
                Segment::in_memory(bitmap, granularity, marks)
            }
        };
        let segment = Arc::new(segment);
        plan.fresh.push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Removes the new files of a plan that nothing has come of.
    pub(super) async fn forget_fresh(&self, plan: Plan<D::File>) {
        self.remove_files(&plan.fresh_files()).await;
    }

    /// Appends a segment that records from `point` on to the bitmap `name`.
    pub(super) async fn plan_successor(
        &self,
        plan: &mut Plan<D::File>,
        name: &str,
        point: Id,
    ) -> Result<()> {
        let granularity = free(&mut plan.bitmaps, name)?.granularity;
        let persistence = Persistence::Persistent;
        let segment = self.plan_segment(plan, name, granularity, persistence).await?;
        let bitmap = free(&mut plan.bitmaps, name)?;
        bitmap.segments.push(Held { segment, point: Some(point) });
        Ok(())
    }
}

/// Collapses a bitmap of several segments into the last one, which gets all marks.
pub(super) fn plan_collapse<F>(plan: &mut Plan<F>, bitmap: usize) {
    let bitmap = &mut plan.bitmaps[bitmap];
    let last = bitmap.active().segment.clone();
    let point = bitmap.segments[0].point;
    for held in bitmap.segments.drain(..) {
        if !Arc::ptr_eq(&held.segment, &last) {
            let from = Source::Segment(held.segment);
            plan.unions.push(Union { from, into: Arc::clone(&last) });
        }
    }
    bitmap.segments.push(Held { segment: last, point });
}
