//! How fast a job may be: bytes that it moves are a debt, which time pays back.

use std::time::Duration;

/// The speed limit of a job. It reads no clock: whoever drives the job says what time it is.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes a second; 0 is no limit.
    speed: u64,
    /// Bytes moved that time has not paid back yet.
    debt: u64,
    /// Up to when it has paid.
    paid: Duration,
}

impl Pace {
    pub(super) fn new(speed: u64) -> Self {
        Self { speed, ..Self::default() }
    }

    pub(super) fn speed(&self) -> u64 {
        self.speed
    }

    /// Sets the limit, and forgets what was moved under the one before.
    pub(super) fn set_speed(&mut self, speed: u64) {
        (self.speed, self.debt) = (speed, 0);
    }

    /// Notes that `bytes` were moved.
    pub(super) fn spend(&mut self, bytes: u64) {
        if self.speed > 0 {
            self.debt = self.debt.saturating_add(bytes);
        }
    }

    /// It is `now`, in time since any fixed instant.
    pub(super) fn pass(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.paid).as_nanos();
        let worth = elapsed.saturating_mul(u128::from(self.speed)) / 1_000_000_000;
        // Too short a time to be worth a byte is not lost.
        if worth > 0 || self.debt == 0 {
            self.paid = now;
            self.debt = self.debt.saturating_sub(u64::try_from(worth).unwrap_or(u64::MAX));
        }
    }

    /// Whether more may be moved.
    pub(super) fn is_free(&self) -> bool {
        self.debt == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pace;

    #[test]
    fn what_was_moved_is_paid_back_by_time() {
        let mut pace = Pace::new(1000);
        pace.pass(Duration::from_secs(5));
        assert!(pace.is_free(), "the first bytes need not wait");
        pace.spend(1500);
        pace.pass(Duration::from_millis(6400));
        assert!(!pace.is_free());
        pace.pass(Duration::from_millis(6500));
        assert!(pace.is_free());
        pace.spend(10);
        for microsecond in 0..9_999 {
            pace.pass(Duration::from_micros(6_500_000 + microsecond));
            assert!(!pace.is_free(), "short times add up to no more than they are");
        }
        pace.pass(Duration::from_micros(6_510_000));
        assert!(pace.is_free(), "nor to less");
    }

    #[test]
    fn without_a_limit_nothing_waits_and_idle_time_is_not_saved_up() {
        let mut pace = Pace::default();
        pace.spend(u64::MAX);
        assert!(pace.is_free());
        pace.set_speed(10);
        pace.pass(Duration::from_secs(100));
        pace.spend(10);
        pace.pass(Duration::from_secs(100));
        assert!(!pace.is_free());
        pace.set_speed(20);
        assert!(pace.is_free(), "a new limit begins anew");
    }
}
