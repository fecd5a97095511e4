//! What is written to from some moment on, for a job that follows the disk. In memory only.
//!
//! Like a segment it is set-only: a job that has copied what one watch was told of does not clear it,
//! but goes over to the next one by a switch of the gate. When that is over, every write that told
//! only the old watch is over too: what the job reads then of its granules has them.
//!
//! # Invariants
//!
//! * A write has told every watch that its ticket names before its data is submitted: it may be dropped then.

use std::sync::Arc;

use crate::bits::Bits;
use crate::job::Group;
use crate::mutants::{self, Mutant};
use crate::sync::{AtomicBool, Ordering};
use crate::{ByteRange, Granularity};

/// The granules that writes were about to change. See the [module](self).
#[derive(Debug)]
pub(crate) struct Watch {
    granularity: Granularity,
    written: Bits,
    /// Set once nobody wants to be told any more.
    over: AtomicBool,
    lead: Arc<Lead>,
}

/// What all watches of a job share.
#[derive(Debug)]
pub(crate) struct Lead {
    /// Whether a write waits until the job has copied it.
    blocking: AtomicBool,
    /// Woken when a watch is told of something, and when one is over.
    group: Arc<Group>,
}

impl Lead {
    /// Of a job of `group`; with `blocking`, no write gets ahead of it.
    pub(crate) fn new(group: &Arc<Group>, blocking: bool) -> Arc<Self> {
        Arc::new(Self { blocking: AtomicBool::new(blocking), group: Arc::clone(group) })
    }

    /// Whether a write waits until the job has copied it.
    pub(crate) fn is_blocking(&self) -> bool {
        self.blocking.load(Ordering::Acquire)
    }

    /// Says whether writes wait from now on; those that do go on where they need no more.
    pub(crate) fn set_blocking(&self, blocking: bool) {
        self.blocking.store(blocking, Ordering::Release);
        self.group.changed().wake_all();
    }
}

impl Watch {
    /// A watch of a disk of `size` bytes, which has been told of nothing.
    pub(crate) fn new(granularity: Granularity, size: u64, lead: &Arc<Lead>) -> Arc<Self> {
        let written = Bits::new(granularity.granules_of(size));
        let lead = Arc::clone(lead);
        Arc::new(Self { granularity, written, over: AtomicBool::new(false), lead })
    }

    /// Whether a write to `range` need not tell: the test of the hot path.
    pub(crate) fn knows(&self, range: ByteRange) -> bool {
        // First: afterwards the disk may get a size that the watch does not have.
        self.is_over() || self.written.contains(self.granularity.granules_touched(range))
    }

    /// A write to `range` is about to be submitted.
    pub(crate) fn tell(&self, range: ByteRange) {
        if !self.knows(range) {
            if mutants::planted(Mutant::WokenEarly) {
                self.lead.group.changed().wake_all();
            }
            self.written.set(self.granularity.granules_touched(range));
            if self.lead.is_blocking() && mutants::without(Mutant::WokenEarly) {
                self.lead.group.changed().wake_all();
            }
        }
    }

    /// The granules told of.
    pub(crate) fn written(&self) -> &Bits {
        &self.written
    }

    /// Whether it was told of anything.
    pub(crate) fn was_told(&self) -> bool {
        self.written.next_set(0).is_some()
    }

    /// Whether nobody wants to be told any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Nobody wants to be told any more: all of it is copied, or never will be.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.lead.group.changed().wake_all();
    }

    /// Waits until what it was told of is copied, where writes may not get ahead.
    pub(crate) async fn copied(&self) {
        let copied = || (self.is_over() || !self.lead.is_blocking()).then_some(());
        self.lead.group.changed().until(copied).await;
    }

    /// Whether a write waits until the job has copied it.
    pub(crate) fn is_blocking(&self) -> bool {
        self.lead.is_blocking() && !self.is_over()
    }
}
