//! From one set of bitmaps to the next: the one way in which it changes.
//!
//! New files are durable first; then old and new record together, and writes that saw only the old
//! are waited for; the data they wrote is synced; one replace of the descriptor decides; then the
//! old stops recording, and its files go. Whatever a crash finds, the state that the descriptor
//! names has recorded everything since its point in time.

use std::sync::Arc;

use super::Image;
use super::bitmaps::{self, Control, Marks, Tracked};
use super::book::check_room;
use crate::bits::Bits;
use crate::descriptor::{Bitmap, Descriptor, SegmentRef};
use crate::mutants::{self, Mutant};
use crate::sync::Ordering;
use crate::track::segment::Segment;
use crate::track::shield::Shield;
use crate::units::MAX_SIZE;
use crate::{Directory, Error, Granularity, Id, Result};

/// The bitmaps to come.
pub(super) struct Plan<F> {
    /// The size of the disk then, in bytes.
    pub(super) size: u64,
    /// All of them.
    pub(super) bitmaps: Vec<Tracked<F>>,
    /// The names of those that are gone; one of `bitmaps` may have such a name again.
    pub(super) removed: Vec<String>,
    /// The segments that are new.
    pub(super) fresh: Vec<Arc<Segment<F>>>,
    /// Marks to carry over once old and new record together.
    pub(super) unions: Vec<Union<F>>,
    /// What takes the place of the allocation bitmap, if anything does: durable already, and made
    /// under a claim on all clusters that is held until the plan is decided.
    pub(super) allocation: Option<Arc<Segment<F>>>,
    /// What a new point needs of the disk from the moment at which the plan is decided.
    pub(super) shield: Option<(Id, Arc<Shield<F>>)>,
}

/// Marks that go into a segment.
pub(super) struct Union<F> {
    pub(super) from: Source<F>,
    pub(super) into: Arc<Segment<F>>,
}

/// Where marks come from.
pub(super) enum Source<F> {
    /// A segment of the image, which may be recording.
    Segment(Arc<Segment<F>>),
    /// A bitmap of another image.
    Marks(Marks),
}

impl<F> Source<F> {
    fn bits(&self) -> (&Bits, Granularity) {
        match self {
            Self::Segment(segment) => (&segment.wanted, segment.granularity),
            Self::Marks(marks) => (&marks.bits, marks.granularity),
        }
    }
}

impl<F> Plan<F> {
    /// No change yet.
    pub(super) fn of(control: &Control<F>, size: u64) -> Self {
        Self {
            size,
            bitmaps: control.bitmaps.clone(),
            removed: Vec::new(),
            fresh: Vec::new(),
            unions: Vec::new(),
            allocation: None,
            shield: None,
        }
    }

    /// The files that nothing on the medium names yet.
    pub(super) fn fresh_files(&self) -> Vec<String> {
        let mut names = files(&self.fresh);
        names.extend(files(&self.allocation));
        names
    }

    /// `descriptor` as it is once the plan is decided.
    fn applied_to(&self, descriptor: &Descriptor) -> Descriptor {
        let mut next = descriptor.clone();
        for name in &self.removed {
            // A new bitmap of the same name is another.
            next.forget_bitmap(name);
        }
        bitmaps::put_into(&self.bitmaps, &mut next);
        if let Some(segment) = &self.allocation {
            let bitmap = next.bitmap_mut(&segment.bitmap).expect("it stays");
            bitmap.segments = vec![SegmentRef { file: segment.file().name.clone(), point: None }];
        }
        next.size = Some(self.size);
        next
    }
}

impl<D: Directory> Image<D> {
    /// Goes over to `plan`, wholly or not at all.
    ///
    /// # Errors
    ///
    /// The first failure. The old bitmaps are then still in place, and the new ones go on
    /// recording beside them if a crash may find them named.
    pub(super) async fn switch_to(
        &self,
        control: &mut Control<D::File>,
        plan: Plan<D::File>,
    ) -> Result<()> {
        self.prepare_or_give_up(control, &plan).await?;
        let gone = self.decide(control, plan).await?;
        self.remove_files(&gone).await;
        Ok(())
    }

    /// [`prepare`](Self::prepare), and [`give_up`](Self::give_up) where it fails.
    pub(super) async fn prepare_or_give_up(
        &self,
        control: &Control<D::File>,
        plan: &Plan<D::File>,
    ) -> Result<()> {
        let prepared = self.prepare(control, plan).await;
        if prepared.is_err() {
            self.give_up(control, plan).await;
        }
        prepared
    }

    /// Leaves `plan`, which nothing on the medium names, and goes on as before.
    pub(super) async fn give_up(&self, control: &Control<D::File>, plan: &Plan<D::File>) {
        self.gate.replace(control.duties(recording_now(control)));
        self.remove_files(&plan.fresh_files()).await;
    }

    /// Everything before the commit point: new and old record, and the data is durable.
    pub(super) async fn prepare(
        &self,
        control: &Control<D::File>,
        plan: &Plan<D::File>,
    ) -> Result<()> {
        self.refuse_too_much(control, plan).await?;
        self.record_both(control, plan).await?;
        let changes = self.changes_descriptor(plan).await;
        if changes && mutants::without(Mutant::NoDataFlush) {
            // A crash must not take the disk back behind the point in time of a new segment:
            // what was written before it is not marked there.
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether `plan` is about more than bitmaps in memory, of which a crash leaves nothing.
    async fn changes_descriptor(&self, plan: &Plan<D::File>) -> bool {
        let book = self.book.lock().await;
        plan.applied_to(book.descriptor()) != *book.descriptor()
    }

    /// Refuses more segments than the descriptor has room for. Fewer are never refused.
    async fn refuse_too_much(
        &self,
        control: &Control<D::File>,
        plan: &Plan<D::File>,
    ) -> Result<()> {
        let count = |bitmaps: &[Tracked<D::File>]| -> usize {
            let persistent = bitmaps.iter().filter(|bitmap| bitmap.is_persistent());
            persistent.map(|bitmap| bitmap.segments.len()).sum()
        };
        if count(&plan.bitmaps) <= count(&control.bitmaps) {
            return Ok(());
        }
        let next = plan.applied_to(self.book.lock().await.descriptor());
        check_room(&self.name, &next)
    }

    /// Lets old and new bitmaps record together, until no write knows only the old ones.
    async fn record_both(&self, control: &Control<D::File>, plan: &Plan<D::File>) -> Result<()> {
        if !plan.fresh_files().is_empty() {
            // Before anything names them.
            self.directory.sync().await.map_err(Error::io(&self.name, "sync the directory of"))?;
        }
        let both = recording_both(control, plan);
        self.gate.switch(control.duties(both), self.data()).await;
        self.carry_over(&plan.unions).await
    }

    /// Makes `plan` the state of the image: the descriptor, and then at once what records, what is
    /// allocated, and the size. Returns the files that nothing names any more.
    pub(super) async fn decide(
        &self,
        control: &mut Control<D::File>,
        plan: Plan<D::File>,
    ) -> Result<Vec<String>> {
        let mut gone = without(files_of(&control.bitmaps), &plan.bitmaps);
        // New ones too, where a later action of the plan took their place.
        gone.extend(without(files(&plan.fresh), &plan.bitmaps));
        if mutants::planted(Mutant::UnlinkEarly) {
            self.remove_files(&gone).await;
        }
        // Until the end of the commit is known, also when this future is dropped in the midst of it,
        // a crash may find either state.
        let is_settled = control.lingering.is_empty();
        control.lingering.extend_from_slice(&plan.fresh);
        if let (Some(_), Some(clusters)) = (&plan.allocation, &self.clusters) {
            // Of two allocation bitmaps only one is kept up: no flush succeeds before another commit
            // has settled which one it is.
            clusters.segment().poison();
        }
        {
            let mut book = self.book.lock().await;
            let next = plan.applied_to(book.descriptor());
            if plan.allocation.is_some() {
                gone.extend(
                    book.descriptor()
                        .allocation()
                        .into_iter()
                        .flat_map(Bitmap::files)
                        .map(str::to_owned),
                );
            }
            if next != *book.descriptor() || !is_settled {
                self.commit_book(&mut book, next).await?;
            }
        }
        if let (Some(segment), Some(clusters)) = (plan.allocation, &self.clusters) {
            clusters.replace(segment);
        }
        control.bitmaps = plan.bitmaps;
        control.lingering.clear();
        control.shields.extend(plan.shield);
        self.gate.replace(control.duties(bitmaps::recording(&control.bitmaps)));
        // After the bits: whoever sees a larger disk sees what of it is allocated.
        self.size.store(plan.size, Ordering::Release);
        Ok(gone)
    }

    /// Carries marks over, and waits until they are durable.
    async fn carry_over(&self, unions: &[Union<D::File>]) -> Result<()> {
        for Union { from, into } in unions {
            let (bits, granularity) = from.bits();
            unite(&into.wanted, into.granularity, bits, granularity);
            into.note_all();
        }
        if mutants::planted(Mutant::MergeLate) {
            return Ok(());
        }
        for Union { into, .. } in unions {
            self.commit_all(into).await?;
        }
        Ok(())
    }

    /// Makes every mark of `segment` durable, as far as that is expected of it.
    pub(super) async fn commit_all(&self, segment: &Arc<Segment<D::File>>) -> Result<()> {
        if !segment.is_stored() {
            segment.durable.union(&segment.wanted);
            return Ok(());
        }
        let mut lead = segment.lead().await;
        self.commit_or_rotate(&mut lead)
            .await
            .map_err(|what| Error::BitmapWrite { bitmap: segment.bitmap.clone(), what })
    }

    /// Removes files that the descriptor no longer names.
    pub(super) async fn remove_files(&self, names: &[String]) {
        for name in names {
            // Best effort: what stays is an orphan, which `check` finds.
            let _removed = self.directory.remove(name).await;
        }
    }
}

/// Or-s the marks of `from` into `into`, across granularities.
fn unite(into: &Bits, into_size: Granularity, from: &Bits, from_size: Granularity) {
    if into_size == from_size {
        into.union(from);
    } else {
        into.union_scaled(from, into_size, from_size, MAX_SIZE);
    }
}

/// What must record for the state of `control`, and for one that a crash may find instead.
pub(super) fn recording_now<F>(control: &Control<F>) -> Vec<Arc<Segment<F>>> {
    let mut recording = bitmaps::recording(&control.bitmaps);
    add_missing(&mut recording, control.lingering.clone());
    recording
}

/// What must record while it is open whether `plan` comes about.
pub(super) fn recording_both<F>(control: &Control<F>, plan: &Plan<F>) -> Vec<Arc<Segment<F>>> {
    let mut both = bitmaps::recording(&plan.bitmaps);
    if mutants::planted(Mutant::SuccessorOnly) {
        both.retain(|segment| plan.fresh.iter().any(|fresh| Arc::ptr_eq(segment, fresh)));
    } else {
        add_missing(&mut both, recording_now(control));
    }
    both
}

fn add_missing<F>(set: &mut Vec<Arc<Segment<F>>>, more: Vec<Arc<Segment<F>>>) {
    for segment in more {
        if !set.iter().any(|other| Arc::ptr_eq(&segment, other)) {
            set.push(segment);
        }
    }
}

/// `files` without those of `bitmaps`.
fn without<F>(mut files: Vec<String>, bitmaps: &[Tracked<F>]) -> Vec<String> {
    let kept = files_of(bitmaps);
    files.retain(|file| !kept.contains(file));
    files
}

fn files_of<F>(bitmaps: &[Tracked<F>]) -> Vec<String> {
    let held = bitmaps.iter().flat_map(|bitmap| &bitmap.segments);
    files(held.map(|held| &held.segment))
}

fn files<'a, F: 'a>(segments: impl IntoIterator<Item = &'a Arc<Segment<F>>>) -> Vec<String> {
    let stored = segments.into_iter().filter(|segment| segment.is_stored());
    stored.map(|segment| segment.file().name.clone()).collect()
}
