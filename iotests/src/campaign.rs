//! Campaigns: a writer is killed, or the power is cut under it, and what is left is judged.

use std::time::{Duration, Instant};

use fastrand::Rng;
use qbm_cli::aio::Aio;
use qbm_cli::drill::Site;
use qbm_cli::drill::judge::Tally;

use crate::{LoopExt4, Seed, qbm};

/// The size of the disk that is written to.
const DISK: u64 = 8 << 20;
/// The size of the file system whose power is cut.
const FILE_SYSTEM: u64 = 512 << 20;
/// The longest that a writer lives, in milliseconds.
const LONGEST_LIFE: u64 = 100;
/// Cuts of one file system, before it is made anew.
const CUTS: u32 = 30;

/// Kills a writer `count` times, at moments that `seed` draws.
///
/// # Panics
///
/// If a promise is broken; the message has what replays it.
pub fn kill(count: u32, seed: Seed) -> Tally {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::prepare(folder.path(), DISK, seed.0).expect("a site");
    let mut random = seed.random();
    for round in 1..=count {
        // Whatever one leaves, the other has to recover.
        let aio = if round % 4 == 0 { Aio::IoUring } else { Aio::Threads };
        let writer = site.spawn(qbm(), aio).expect("a writer");
        live(&mut random);
        let judged = writer.kill().and_then(|testament| site.judge(&testament));
        check(&site, judged, &format!("kill {round}, QBM_SEED={seed}"));
    }
    site.tally()
}

/// Cuts the power `count` times under a writer, at moments that `seed` draws.
///
/// # Panics
///
/// If a promise is broken, or without root's rights.
pub fn power_cut(count: u32, seed: Seed) -> Tally {
    let mut total = Tally::default();
    let mut random = seed.random();
    let mut left = count;
    while left > 0 {
        let cuts = left.min(CUTS);
        left -= cuts;
        let mut disk = LoopExt4::create(FILE_SYSTEM);
        let mut site = Site::prepare(disk.path(), DISK, random.u64(..)).expect("a site");
        // The site itself must survive the first cut.
        sync(&disk);
        for round in 1..=cuts {
            let aio = if round % 4 == 0 { Aio::IoUring } else { Aio::Threads };
            let writer = site.spawn(qbm(), aio).expect("a writer");
            live(&mut random);
            let testament = writer.cut_off(|| disk.cut_power()).expect("a dead writer");
            disk.restart();
            let judged = site.judge(&testament);
            check(&site, judged, &format!("cut {round} of {left} left, QBM_SEED={seed}"));
            // The judge's own files need not survive, but what it saw must be what was there.
            sync(&disk);
        }
        total.add(site.tally());
    }
    total
}

/// Lets a writer live for a while.
fn live(random: &mut Rng) {
    let end = Instant::now() + Duration::from_millis(random.u64(1..LONGEST_LIFE));
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::sleep(left);
    }
}

fn sync(disk: &LoopExt4) {
    let folder = std::fs::File::open(disk.path()).expect("the file system");
    rustix::fs::syncfs(folder).expect("a sync of all of it");
}

fn check(site: &Site, judged: anyhow::Result<()>, replay: &str) {
    if let Err(error) = judged {
        panic!("{replay}: {error:#}");
    }
    assert!(site.tally().is_clean(), "{replay}: {:?}", site.tally());
}
