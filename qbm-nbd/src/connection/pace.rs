//! Whether requests wait for a medium, or are a matter of copying memory.
//!
//! What comes from the page cache is done sooner by one thread than by several that wake each other;
//! what comes from a medium is done sooner by many. Nobody knows beforehand, so the last requests
//! tell.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Waking a thread costs a few microseconds: work that takes many times as long is worth it.
const WORTH_A_THREAD: u32 = 50_000;

/// One request that took long moves the average, but does not decide.
const MOST: u32 = 4 * WORTH_A_THREAD;

/// How long requests have taken lately, in nanoseconds: each counts for an eighth.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// Notes how long a request took.
    pub(crate) fn note(&self, took: Duration) {
        let took = u32::try_from(took.as_nanos()).map_or(MOST, |took| took.min(MOST));
        let average = self.0.load(Ordering::Relaxed);
        // Two threads at once may forget one of them, which does no harm.
        self.0.store(average - average / 8 + took / 8, Ordering::Relaxed);
    }

    /// Whether the next request is likely to wait.
    pub(crate) fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) > WORTH_A_THREAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_requests_change_the_pace_and_one_does_not() {
        let pace = Pace::default();
        assert!(!pace.is_slow());
        pace.note(Duration::from_secs(1));
        assert!(!pace.is_slow());
        (0..5).for_each(|_| pace.note(Duration::from_micros(200)));
        assert!(pace.is_slow());
        (0..20).for_each(|_| pace.note(Duration::from_micros(2)));
        assert!(!pace.is_slow());
    }
}
