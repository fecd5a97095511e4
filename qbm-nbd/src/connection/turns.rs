//! Whose turn it is to receive: one thread of a connection at a time, the leader.
//!
//! The leader receives a request and puts the receiver down *before* it works on it. Where another
//! request waits already, or the work may take long, it also wakes a follower. Otherwise it wakes
//! nobody, and takes the receiver again when its work is done: a client with one request at a time
//! is served by one thread, without a switch between threads. That guess may be wrong, so one of the
//! followers is the watch: a receiver that lies unused for [`PATIENCE`] is taken by it.
//!
//! # Invariants
//!
//! * The receiver is held by one thread, or lies here.
//! * While it lies here and a follower waits, a follower is awake, or the watch looks again within
//!   [`PATIENCE`].

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::receiver::Receiver;

/// How long a receiver may lie unused before the watch takes it. Shorter than what a wait for a
/// medium costs, and long enough that the watch costs nothing.
const PATIENCE: Duration = Duration::from_millis(1);

/// Whose turn it is. See the [module](self).
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    /// What followers other than the watch sleep on.
    call: Condvar,
    /// What the watch sleeps on.
    watch: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while a thread receives.
    receiver: Option<Receiver>,
    /// How often it was taken.
    taken: u64,
    /// Followers asleep, the watch among them.
    asleep: usize,
    watch: Watch,
    /// Nothing is received any more.
    over: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watch {
    /// No follower is the watch.
    #[default]
    Absent,
    /// It looks every [`PATIENCE`].
    Looking,
    /// It sleeps, because the leader waits for a request.
    Resting,
    /// It is to receive.
    Called,
}

/// Who receives next, when a receiver is put down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A follower, at once.
    Follower,
    /// Whoever is free first.
    Nobody,
}

impl Turns {
    pub(crate) fn new(receiver: Receiver) -> Self {
        let state = State { receiver: Some(receiver), ..State::default() };
        Self { state: Mutex::new(state), call: Condvar::new(), watch: Condvar::new() }
    }

    /// Takes the receiver if it lies here.
    pub(crate) fn take_now(&self) -> Option<Receiver> {
        self.take_from(&mut self.lock())
    }

    /// Waits for a turn to receive; `None` once nothing is received any more.
    pub(crate) fn take(&self) -> Option<Receiver> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            if let Some(receiver) = self.take_from(&mut state) {
                return Some(receiver);
            }
            state.asleep += 1;
            if state.watch == Watch::Absent {
                state = self.keep_watch(state);
            } else {
                state = self.call.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.asleep -= 1;
        }
    }

    /// Puts the receiver down. Returns whether there is a follower; without one it lies there until
    /// a thread is done with its work, however long that takes.
    pub(crate) fn put(&self, receiver: Receiver, call: Call) -> bool {
        let mut state = self.lock();
        state.receiver = Some(receiver);
        let others = state.asleep - usize::from(state.watch != Watch::Absent);
        match (call, state.watch) {
            (Call::Follower, _) if others > 0 => self.call.notify_one(),
            (_, Watch::Absent) => return state.asleep > 0 || state.over,
            (Call::Follower, _) => {
                state.watch = Watch::Called;
                self.watch.notify_one();
            }
            (Call::Nobody, Watch::Resting) => {
                state.watch = Watch::Looking;
                self.watch.notify_one();
            }
            (Call::Nobody, Watch::Looking | Watch::Called) => {}
        }
        true
    }

    /// Nothing is received any more. What is worked on goes on.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.call.notify_all();
        self.watch.notify_all();
    }

    fn take_from(&self, state: &mut State) -> Option<Receiver> {
        if state.over {
            return None;
        }
        let receiver = state.receiver.take()?;
        state.taken += 1;
        if state.watch == Watch::Absent && state.asleep > 0 {
            // The next follower keeps watch.
            self.call.notify_one();
        }
        Some(receiver)
    }

    /// Sleeps as the watch, until it is called or the receiver lies unused.
    fn keep_watch<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.watch = Watch::Looking;
        while !state.over && state.watch != Watch::Called {
            if state.watch == Watch::Resting {
                state = self.watch.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let taken = state.taken;
            let (next, woken) =
                self.watch.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if !woken.timed_out() || state.taken != taken || state.watch != Watch::Looking {
                continue;
            }
            if state.receiver.is_some() {
                break;
            }
            // The leader waits for a request, and may do so for hours.
            state.watch = Watch::Resting;
        }
        state.watch = Watch::Absent;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
