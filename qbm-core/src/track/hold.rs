//! Keeping all writes waiting, for the moment in which a job ends.
//!
//! A hold is a duty like any other: a switch of the gate puts it in force, and when that is over no
//! write is under way. Reads go on.

use crate::sync::{AtomicU64, Ordering};

use super::wait::WaitList;

/// What writes wait for. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Hold {
    state: AtomicU64,
    changed: WaitList,
}

const HELD: u64 = 0;
const RELEASED: u64 = 1;
const MOVED: u64 = 2;

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
        self.state.load(Ordering::Acquire) == RELEASED
    }

    /// Waits for its end.
    pub(crate) async fn released(&self) -> Released {
        self.changed
            .until(|| match self.state.load(Ordering::Acquire) {
                HELD => None,
                MOVED => Some(Released::Elsewhere),
                _ => Some(Released::Here),
            })
            .await
    }

    /// Ends it, unless it has ended.
    pub(crate) fn release(&self, how: Released) {
        let state = match how {
            Released::Here => RELEASED,
            Released::Elsewhere => MOVED,
        };
        let _ended_before =
            self.state.compare_exchange(HELD, state, Ordering::AcqRel, Ordering::Acquire);
        self.changed.wake_all();
    }
}
