//! Waiting for a condition, without a thread or an executor.

use std::sync::PoisonError;
use std::task::{Poll, Waker};

use crate::mutants::{self, Mutant};
use crate::sync::{Mutex, MutexGuard};

/// Tasks that wait for a condition over atomics to become true.
///
/// Whoever may have made it true calls [`wake_all`](Self::wake_all) afterwards; waking in vain is
/// harmless, and a task that went away costs one waker until the next call.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    wakers: Mutex<Vec<Waker>>,
}

impl WaitList {
    /// Waits until `condition` returns a value, and returns it.
    pub(crate) async fn until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        std::future::poll_fn(move |context| {
            if let Some(value) = condition() {
                return Poll::Ready(value);
            }
            self.enlist(context.waker());
            if mutants::planted(Mutant::LostWakeUp) {
                return Poll::Pending;
            }
            // Asked again: the condition may have become true before the waker was enlisted, and
            // then nobody would wake us.
            condition().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Lets every waiting task look at its condition again.
    pub(crate) fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.lock());
        for waker in wakers {
            waker.wake();
        }
    }

    fn enlist(&self, waker: &Waker) {
        let mut wakers = self.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        // A list of wakers is valid whatever its holder was doing when it panicked.
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
