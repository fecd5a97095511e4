//! Power cuts while a job is under way.

use std::collections::BTreeMap;

use fastrand::Rng;
use qbm_core::Access;
use qbm_sim::{Disk, Grain, Harms, Loss, Medium, run};

use super::guest::Guests;
use super::scene::{GRANULE_BYTES, contents, open, repair};

/// Says which case failed, and how to see it again.
pub(crate) struct Replay(pub(crate) u64, pub(crate) String);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("QBM_SEED={} cargo test -p qbm-sim --test engine jobs: {}", self.0, self.1);
        }
    }
}

/// The seeds to try: one, if the environment has it.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let one = std::env::var("QBM_SEED").ok().map(|seed| seed.parse().unwrap());
    one.map_or(0..count, |seed| seed..seed + 1)
}

/// Cuts the power again and again, each time for a copy of the disk.
pub(crate) struct Cuts {
    /// What the disk of each image was.
    before: BTreeMap<&'static str, Vec<u8>>,
    rng: Rng,
    seen: u64,
    /// How many cuts were looked at.
    pub(crate) checked: usize,
}

impl Cuts {
    pub(crate) fn of(disk: &Disk, names: &[&'static str], seed: u64) -> Self {
        let before = run(disk, seed, async {
            let mut before = BTreeMap::new();
            for name in names {
                let image = open(disk, name, Access::Read, 9).await.unwrap();
                before.insert(*name, contents(&image).await);
            }
            before
        });
        Self { before, rng: Rng::with_seed(seed), seen: disk.activity(), checked: 0 }
    }

    /// The image `name` is not looked at any more: its disk is another from now on.
    pub(crate) fn forget(&mut self, name: &str) {
        self.before.remove(name);
    }

    /// Cuts the power now, unless nothing has happened since the last time: what guests have flushed
    /// must be on the disk of the image `used`, and no image may have lost a mark.
    pub(crate) fn cut(&mut self, disk: &Disk, guests: &Guests, used: &str) {
        let activity = disk.activity();
        if std::mem::replace(&mut self.seen, activity) == activity {
            return;
        }
        let loss = match self.rng.u8(..4) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            2 => Loss::Only(self.rng.u64(..)),
            _ => Loss::Torn(Grain::Byte),
        };
        let left = disk.snapshot().power_loss(loss, &mut self.rng, &mut Harms::default());
        self.check(left, guests, used, 1000 + self.checked as u64);
        self.checked += 1;
    }

    fn check(&self, medium: Medium, guests: &Guests, used: &str, seed: u64) {
        let disk = Disk::immediate(medium, seed);
        run(&disk, seed, async {
            for (name, before) in &self.before {
                repair(&disk, name, seed + 10_000).await;
                let image = open(&disk, name, Access::Read, seed + 20_000).await.unwrap();
                let now = contents(&image).await;
                let marks = image.bitmap_bits("b").await.unwrap();
                let granule = GRANULE_BYTES;
                let both = now.chunks(granule).zip(before.chunks(granule));
                for (granule, (now, before)) in both.enumerate() {
                    let marked = marks.get(granule as u64);
                    assert!(now == before || marked, "{name}: granule {granule} lost its mark");
                }
                if *name == used {
                    guests.assert_found(name, &now);
                }
            }
        });
    }
}
