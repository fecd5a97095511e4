//! One file of a bitmap while it is open: the marks wanted, and those known to be durable. Of a bitmap
//! that is not persistent, no file, and marks that nobody expects after a crash.
//!
//! # Invariants
//!
//! * `durable` is a subset of `wanted`, and of what the file surely holds after a crash (or the
//!   descriptor says durably that this file is not to be trusted after one, or there is no file).
//! * A page that differs between the two is in `pending`, or held by the one committer.
//! * No bit is ever cleared.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::commit::Lead;
use super::wait::WaitList;
use crate::bits::{Bits, PageSet};
use crate::mutants::{self, Mutant};
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use crate::{ByteRange, Granularity};

/// The file behind a segment, if it has one; a rotation puts another in its place.
#[derive(Debug)]
pub(crate) struct SegmentFile<F> {
    /// Its name in the descriptor.
    pub(crate) name: String,
    /// The open file.
    pub(crate) file: F,
}

/// One file of a bitmap. See the [module](self) for what always holds.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    /// The bitmap's name, for messages.
    pub(crate) bitmap: String,
    /// Bytes that a bit stands for.
    pub(crate) granularity: Granularity,
    /// The marks wanted.
    pub(crate) wanted: Bits,
    /// The marks known to be durable: the only thing that a writer may rely on.
    pub(crate) durable: Bits,
    /// The pages of `wanted` that may differ from the file: the meta bitmap.
    pub(crate) pending: PageSet,
    /// Whether marks need not be durable, because a durable descriptor says that the file is not
    /// to be trusted after a crash, or there is none.
    relaxed: bool,
    /// `None` in a segment that is in memory only.
    file: Option<Mutex<Arc<SegmentFile<F>>>>,
    /// Whether somebody is committing.
    committing: AtomicBool,
    /// Set when a commit was given up half-way: its writes may still be under way.
    pub(super) abandoned: AtomicBool,
    /// Set by a failed commit: nothing is known of the file, and only another can help.
    poisoned: AtomicBool,
    /// Commits that failed for good, rotation included.
    failures: AtomicU64,
    last_failure: Mutex<String>,
    pub(super) waiting: WaitList,
}

/// What became of waiting for a turn.
pub(crate) enum Turn<'a, F> {
    /// The granules are durable.
    Durable,
    /// A commit failed meanwhile; why.
    Failed(String),
    /// Nobody else commits, so the caller does.
    Lead(Lead<'a, F>),
}

impl<F> Segment<F> {
    /// An empty segment of a disk of `size` bytes over `file`, which holds no bit yet.
    pub(crate) fn new(
        bitmap: &str,
        granularity: Granularity,
        size: u64,
        file: SegmentFile<F>,
    ) -> Self {
        Self::holding(bitmap, granularity, Bits::new(granularity.granules_of(size)), file)
    }

    /// A segment over `file` with the marks `wanted`, none of which is known to be durable.
    pub(crate) fn holding(
        bitmap: &str,
        granularity: Granularity,
        wanted: Bits,
        file: SegmentFile<F>,
    ) -> Self {
        let file = Some(Mutex::new(Arc::new(file)));
        Self { file, relaxed: false, ..Self::in_memory(bitmap, granularity, wanted) }
    }

    /// A segment in memory only with the marks `wanted`: no writer waits for it, and no crash leaves it.
    pub(crate) fn in_memory(bitmap: &str, granularity: Granularity, wanted: Bits) -> Self {
        let granules = wanted.len();
        Self {
            bitmap: bitmap.to_owned(),
            granularity,
            pending: PageSet::new(wanted.page_count()),
            wanted,
            durable: Bits::new(granules),
            relaxed: true,
            file: None,
            committing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
            waiting: WaitList::default(),
        }
    }

    /// Whether writers go on before their marks are durable. If so, a durable descriptor says
    /// that the file is not to be trusted after a crash.
    pub(crate) fn relaxed(self, relaxed: bool) -> Self {
        Self { relaxed, ..self }
    }

    /// The granules that `range` touches, as far as this segment reaches.
    pub(crate) fn granules(&self, range: ByteRange) -> Range<u64> {
        let granules = self.granularity.granules_touched(range);
        granules.start.min(self.wanted.len())..granules.end.min(self.wanted.len())
    }

    /// Whether a writer to `granules` need not wait: the test of the hot path.
    pub(crate) fn is_durable(&self, granules: &Range<u64>) -> bool {
        self.durable.contains(granules.clone())
    }

    /// Whether a write to `range` finds its marks durable here.
    pub(crate) fn has_marks(&self, range: ByteRange) -> bool {
        self.is_durable(&self.granules(range))
    }

    /// Marks `granules` in memory and notes their pages. Returns whether the caller may go on at
    /// once, without waiting for a commit.
    pub(crate) fn mark(&self, granules: &Range<u64>) -> bool {
        let known = mutants::planted(Mutant::Follower) && self.wanted.contains(granules.clone());
        // Bits first, pages after: a committer that takes the page finds the bits in it.
        self.wanted.set(granules.clone());
        for page in Bits::pages_of(granules.clone()) {
            self.pending.insert(page);
        }
        if self.relaxed {
            self.durable.set(granules.clone());
        }
        self.relaxed || known
    }

    /// Whether the file has every mark, as far as is known.
    pub(crate) fn is_committed(&self) -> bool {
        self.pending.is_empty() && !self.is_poisoned()
    }

    /// Notes that every page with a mark may differ from the file.
    pub(crate) fn note_all(&self) {
        for page in 0..self.wanted.page_count() {
            if !self.wanted.page_is_empty(page) {
                self.pending.insert(page);
            }
        }
    }

    /// Waits until `granules` are durable, or there is somebody to commit them, or a commit that
    /// began after `failures_before` was read has failed.
    pub(crate) async fn turn(&self, granules: &Range<u64>, failures_before: u64) -> Turn<'_, F> {
        self.waiting
            .until(|| {
                // The predicate is the invariant itself, so it holds across a rotation too.
                if self.is_durable(granules) {
                    return Some(Turn::Durable);
                }
                if self.failures() != failures_before {
                    return Some(Turn::Failed(self.last_failure().clone()));
                }
                self.try_lead().map(Turn::Lead)
            })
            .await
    }

    /// Becomes the one committer, as soon as there is none.
    pub(crate) async fn lead(&self) -> Lead<'_, F> {
        self.waiting.until(|| self.try_lead()).await
    }

    /// Becomes the one committer, unless there is one.
    fn try_lead(&self) -> Option<Lead<'_, F>> {
        let free =
            self.committing.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        let alone = free.is_ok() || mutants::planted(Mutant::TwoCommitters);
        alone.then(|| Lead::new(self))
    }

    pub(super) fn stop_leading(&self) {
        self.committing.store(false, Ordering::Release);
        self.waiting.wake_all();
    }

    /// Whether it has a file.
    pub(crate) fn is_stored(&self) -> bool {
        self.file.is_some()
    }

    /// The file as of now, of a segment that [has](Self::is_stored) one.
    pub(crate) fn file(&self) -> Arc<SegmentFile<F>> {
        self.locked_file().clone()
    }

    fn locked_file(&self) -> MutexGuard<'_, Arc<SegmentFile<F>>> {
        let file = self.file.as_ref().expect("nothing of what is in memory only is written");
        file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file can no longer be relied upon.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Rules the file out: the next commit goes to a new one.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// Puts `file` in place of a poisoned one. It durably holds every bit of `durable`.
    pub(super) fn replace_file(&self, file: SegmentFile<F>) {
        *self.locked_file() = Arc::new(file);
        self.note_all();
        if mutants::planted(Mutant::RotatedFromMemory) {
            self.durable.union(&self.wanted);
        }
        self.poisoned.store(false, Ordering::Release);
    }

    /// How many commits have failed for good.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    pub(super) fn note_failure(&self, why: String) {
        *self.last_failure() = why;
        self.failures.fetch_add(1, Ordering::AcqRel);
        self.waiting.wake_all();
    }

    fn last_failure(&self) -> MutexGuard<'_, String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Segment, SegmentFile};
    use crate::Granularity;

    fn segment() -> Segment<()> {
        let file = SegmentFile { name: "file".to_owned(), file: () };
        Segment::new("bitmap", Granularity::MIN, 4096, file)
    }

    #[test]
    fn a_file_has_every_mark_unless_one_is_pending_or_it_is_ruled_out() {
        assert!(segment().is_committed());
        let marked = segment();
        assert!(!marked.mark(&(3..4)), "the caller has to wait");
        assert!(!marked.is_committed());
        let ruled_out = segment();
        ruled_out.poison();
        assert!(!ruled_out.is_committed());
    }

    #[test]
    fn relaxed_marks_count_as_durable_and_are_pending_all_the_same() {
        let segment = segment().relaxed(true);
        assert!(segment.mark(&(3..4)), "the caller need not wait");
        assert!(segment.is_durable(&(3..4)) && !segment.is_committed());
    }
}
