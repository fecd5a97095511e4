//! Jobs that all count or none does.

use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};
use crate::track::wait::WaitList;

/// Jobs that succeed together: once all have done their work, one decision is made for all of them.
///
/// Join all of them before the first begins. A job on its own is a group of one.
#[derive(Debug, Default)]
pub struct Group {
    state: Mutex<State>,
    /// Woken whenever anything about any of its jobs changes.
    changed: WaitList,
}

#[derive(Debug, Default)]
struct State {
    members: usize,
    /// Those that have done their work.
    arrived: usize,
    /// Whether somebody has to say that it is to count.
    manual: bool,
    /// Invariant: made once.
    decision: Option<Decision>,
}

/// What becomes of the jobs of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// What they did counts.
    Count,
    /// All of them take it back.
    Abort,
}

impl Group {
    /// One more job; `manual` if it is to be finalized by hand, and with it all others.
    pub(super) fn join(&self, manual: bool) {
        let mut state = self.state();
        state.members += 1;
        state.manual |= manual;
    }

    /// Those who wait for anything of its jobs wait here.
    pub(crate) fn changed(&self) -> &WaitList {
        &self.changed
    }

    /// A job has done its work.
    pub(super) fn arrive(&self) {
        let mut state = self.state();
        state.arrived += 1;
        if state.arrived == state.members && !state.manual {
            state.decision.get_or_insert(Decision::Count);
        }
        drop(state);
        self.changed().wake_all();
    }

    /// What all have done counts.
    pub(super) fn finalize(&self) {
        self.decide(Decision::Count);
    }

    /// A job has failed or was cancelled. Too late once it was decided that they count.
    pub(super) fn abort(&self) {
        self.decide(Decision::Abort);
    }

    fn decide(&self, decision: Decision) {
        self.state().decision.get_or_insert(decision);
        self.changed().wake_all();
    }

    /// Whether all jobs have done their work.
    pub(super) fn has_arrived(&self) -> bool {
        let state = self.state();
        state.arrived == state.members
    }

    pub(super) fn decision(&self) -> Option<Decision> {
        self.state().decision
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
