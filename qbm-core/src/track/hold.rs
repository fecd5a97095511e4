//! Keeping all writes waiting, for the moment in which a job ends.
//!
//! A hold is a duty like any other: a switch of the gate puts it in force, and when that is over no
//! write is under way. Reads go on.

use super::wait::WaitList;
use crate::mutants::{self, Mutant};
use crate::sync::{AtomicBool, Ordering};

/// What writes wait for. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Hold {
    ended: AtomicBool,
    /// Whether the disk has moved. Set before it ends, or never.
    moved: AtomicBool,
    changed: WaitList,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// Writes go on.
    Here,
    /// The disk has moved to another image, where they are to be made.
    Elsewhere,
}

impl Hold {
    /// Whether a write need not wait.
    pub(crate) fn is_released(&self) -> bool {
        self.ended.load(Ordering::Acquire) && !self.moved.load(Ordering::Acquire)
    }

    /// Waits for its end.
    pub(crate) async fn released(&self) -> Released {
        self.changed.until(|| self.ended.load(Ordering::Acquire).then_some(())).await;
        if self.moved.load(Ordering::Acquire) { Released::Elsewhere } else { Released::Here }
    }

    /// Ends it, unless it has ended.
    pub(crate) fn release(&self, how: Released) {
        if mutants::planted(Mutant::MovedLate) {
            self.ended.store(true, Ordering::Release);
        }
        if how == Released::Elsewhere {
            self.moved.store(true, Ordering::Release);
        }
        self.ended.store(true, Ordering::Release);
        self.changed.wake_all();
    }
}
