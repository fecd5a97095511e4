//! The world around a simulated image.

use std::sync::atomic::{AtomicU64, Ordering};

use qbm_core::host::Opener;
use qbm_core::{Host, Id, Timestamp};

/// A host whose clock ticks with every look, and whose ids follow from a seed.
#[derive(Debug)]
pub struct SimHost {
    seed: u64,
    ticks: AtomicU64,
}

impl SimHost {
    /// A host with the ids of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, ticks: AtomicU64::new(0) }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }
}

impl Host for SimHost {
    fn now(&self) -> Timestamp {
        Timestamp(self.tick())
    }

    fn fresh_id(&self) -> Id {
        Id(u128::from(self.seed) << 64 | u128::from(self.tick() + 1))
    }

    fn opener(&self) -> Opener {
        Opener { pid: 1, program: "qbm-sim".to_owned(), boot: "simulated".to_owned() }
    }
}
