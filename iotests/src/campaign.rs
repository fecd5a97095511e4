//! Campaigns: a writer is killed, or the power is cut under it, and what is left is judged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use qbm_cli::aio::Aio;
use qbm_cli::drill::judge::Tally;
use qbm_cli::drill::{Site, Subject};

use crate::{LoopExt4, Seed, qbm};

/// The size of the disk that is written to.
const DISK: u64 = 8 << 20;
/// The size of the file system whose power is cut.
const FILE_SYSTEM: u64 = 512 << 20;
/// The longest that a writer lives, in milliseconds.
const LONGEST_LIFE: u64 = 100;
/// Writers of one overlay, before it is made anew: by then most of its clusters are its own.
const LIVES_OF_AN_OVERLAY: u32 = 8;
/// Cuts of one file system, before it is made anew.
const CUTS: u32 = 30;
/// How many rounds have one on a flat image. An overlay has all that such an image has, and clusters.
const FLAT_EVERY: u32 = 16;

/// What was found in images of either kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tallies {
    /// Images of their own.
    pub flat: Tally,
    /// Images over another one.
    pub overlay: Tally,
}

impl Tallies {
    fn add(&mut self, other: Self) {
        self.flat.add(other.flat);
        self.overlay.add(other.overlay);
    }
}

/// Kills a writer `count` times, at moments that `seed` draws.
///
/// # Panics
///
/// If a promise is broken; the message has what replays it.
pub fn kill(count: u32, seed: Seed) -> Tallies {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut random = seed.random();
    let mut sites = Sites::prepare(folder.path(), &mut random);
    for round in 1..=count {
        let (site, aio) = sites.turn(round, &mut random);
        let writer = site.spawn(qbm(), aio).expect("a writer");
        live(&mut random);
        let judged = writer.kill().and_then(|testament| site.judge(&testament));
        check(site, judged, &format!("kill {round}, QBM_SEED={seed}"));
    }
    sites.tallies()
}

/// Cuts the power `count` times under a writer, at moments that `seed` draws.
///
/// # Panics
///
/// If a promise is broken, or without root's rights.
pub fn power_cut(count: u32, seed: Seed) -> Tallies {
    let mut total = Tallies::default();
    let mut random = seed.random();
    let mut left = count;
    while left > 0 {
        let cuts = left.min(CUTS);
        left -= cuts;
        let mut disk = LoopExt4::create(FILE_SYSTEM);
        let mut sites = Sites::prepare(disk.path(), &mut random);
        for round in 1..=cuts {
            let (site, aio) = sites.turn(round, &mut random);
            // What is there must survive the cut, and what the judge saw be what was there.
            sync(&disk);
            let writer = site.spawn(qbm(), aio).expect("a writer");
            live(&mut random);
            let testament = writer.cut_off(|| disk.cut_power()).expect("a dead writer");
            disk.restart();
            let judged = site.judge(&testament);
            check(site, judged, &format!("cut {round} of {left} left, QBM_SEED={seed}"));
        }
        total.add(sites.tallies());
    }
    total
}

/// An image and an overlay, which have their turns one after the other.
struct Sites {
    folder: PathBuf,
    flat: Site,
    overlay: Site,
    /// What was found in overlays that are gone.
    before: Tally,
}

impl Sites {
    fn prepare(folder: &Path, random: &mut Rng) -> Self {
        let flat = prepare(&folder.join("flat"), Subject::Flat, random);
        let overlay = prepare(&folder.join("overlay"), Subject::Overlay, random);
        Self { folder: folder.to_owned(), flat, overlay, before: Tally::default() }
    }

    /// The site of the round `round`, and how its writer moves its bytes. Whatever a writer of one
    /// kind leaves, one of the other has to recover.
    fn turn(&mut self, round: u32, random: &mut Rng) -> (&mut Site, Aio) {
        let aio = if random.u8(..4) == 0 { Aio::IoUring } else { Aio::Threads };
        if round % FLAT_EVERY == 1 {
            return (&mut self.flat, aio);
        }
        if self.overlay.lives() == LIVES_OF_AN_OVERLAY {
            self.before.add(self.overlay.tally());
            let folder = self.folder.join("overlay");
            std::fs::remove_dir_all(&folder).expect("the folder is ours");
            self.overlay = prepare(&folder, Subject::Overlay, random);
        }
        (&mut self.overlay, aio)
    }

    fn tallies(&self) -> Tallies {
        let mut overlay = self.before;
        overlay.add(self.overlay.tally());
        Tallies { flat: self.flat.tally(), overlay }
    }
}

fn prepare(folder: &Path, subject: Subject, random: &mut Rng) -> Site {
    std::fs::create_dir(folder).expect("a new folder");
    Site::prepare(folder, subject, DISK, random.u64(..)).expect("a site")
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
