//! One seed decides all that a round draws at random, and a failure prints it.
//!
//! With `QBM_SEED` set, a campaign runs that one round alone.

use std::fmt;
use std::thread;

use fastrand::Rng;

/// The variable that replays a round.
const VARIABLE: &str = "QBM_SEED";

/// What one round draws from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// A source of random numbers that this seed alone decides.
    pub fn random(self) -> Rng {
        Rng::with_seed(self.0)
    }

    /// The seed in a text as [`Display`](fmt::Display) prints it, or in decimal.
    fn parse(text: &str) -> Option<Self> {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.ok().map(Self)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Runs `count` rounds, each with a fresh seed; or the one round of `QBM_SEED`, if that is set.
///
/// A round that panics leaves the line with which it can be replayed.
///
/// # Panics
///
/// If a round does, or `QBM_SEED` is no number.
pub fn rounds(count: usize, mut round: impl FnMut(Seed)) {
    match std::env::var(VARIABLE) {
        Ok(text) => {
            let seed = Seed::parse(&text).unwrap_or_else(|| panic!("{VARIABLE}={text}: no seed"));
            round(seed);
        }
        Err(_) => each_round(count, &mut Rng::new(), round),
    }
}

/// The same with as many rounds at a time as there are processors.
///
/// # Panics
///
/// As [`rounds`] does.
pub fn rounds_at_once(count: usize, round: impl Fn(Seed) + Sync) {
    if std::env::var_os(VARIABLE).is_some() {
        return rounds(1, round);
    }
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for worker in 0..workers {
            let share = (count + worker) / workers;
            let round = &round;
            scope.spawn(move || rounds(share, round));
        }
    });
}

fn each_round(count: usize, seeds: &mut Rng, mut round: impl FnMut(Seed)) {
    for index in 0..count {
        let seed = Seed(seeds.u64(..));
        let replay = ReplayLine { seed, index, count };
        round(seed);
        drop(replay);
    }
}

/// Printed if it is dropped by a panic.
struct ReplayLine {
    seed: Seed,
    index: usize,
    count: usize,
}

impl Drop for ReplayLine {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { seed, index, count } = self;
            eprintln!("{VARIABLE}={seed} replays this round, the {index}th of {count}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_printed_seed_is_read_back() {
        for seed in [Seed(0), Seed(0xdead_beef), Seed(u64::MAX)] {
            assert_eq!(Seed::parse(&seed.to_string()), Some(seed));
            assert_eq!(Seed::parse(&seed.0.to_string()), Some(seed));
        }
        assert_eq!(Seed::parse("0xseed"), None);
    }

    #[test]
    fn one_seed_draws_the_same_numbers_each_time() {
        assert_eq!(Seed(7).random().u64(..), Seed(7).random().u64(..));
    }

    #[test]
    fn as_many_rounds_are_done_at_once_as_one_after_the_other() {
        for count in [0, 1, 2, 7] {
            let done = AtomicUsize::new(0);
            rounds_at_once(count, |_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), count);
        }
    }

    #[test]
    fn every_round_has_a_seed_of_its_own() {
        let mut seen = Vec::new();
        each_round(100, &mut Seed(1).random(), |seed| seen.push(seed.0));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }
}
