//! One life of a process: open, work, close, with a crash image at every step.

use std::cell::RefCell;
use std::sync::Arc;

use fastrand::Rng;
use qbm_core::{Host, Image};

use super::model::Model;
use super::workload::{self, Site};
use super::{Count, Media, check, open};
use crate::{Disk, Executor, Fault, Grain, Kind, Loss, SimDirectory, SimHost, Step};

/// Runs a process on `media`. With `mortal`, it may be killed: returns what that leaves.
pub(crate) fn run(
    media: &Media,
    model: &RefCell<Model>,
    (seed, mortal): (u64, bool),
    count: &mut Count,
) -> Option<Media> {
    let mut rng = Rng::with_seed(seed);
    let source = Disk::new(media.source.clone(), rng.u64(..));
    let target = Disk::new(media.target.clone(), rng.u64(..));
    let host: Arc<dyn Host> = Arc::new(SimHost::new(rng.u64(..)));
    let die_at = if mortal && rng.bool() { rng.u32(1..400) } else { u32::MAX };
    if mortal && rng.u8(..3) == 0 {
        inject(&source, &mut rng);
    }
    let mut watch = Watch {
        source: &source,
        target: &target,
        model,
        rng: rng.fork(),
        seen: (0, 0),
        after_kill: !mortal,
        steps_left: die_at,
        errors: 0,
        count,
    };
    let opened = {
        let mut opened = None;
        let mut executor = Executor::new(&[&source, &target], rng.u64(..));
        executor.spawn("open", async { opened = Some(open(&source, &host).await) });
        if let Some(dead) = watch.finish(&mut executor) {
            return Some(dead);
        }
        drop(executor);
        opened.expect("the task has finished")
    };
    // With a fault it may fail; then there is nothing to work on, and nothing is lost.
    if let Ok(image) = opened {
        let site = Site { image: &image, disk: &source, target: &target, host: &host, model };
        if let Some(dead) = work(site, &mut rng, &mut watch) {
            return Some(dead);
        }
        if let Some(dead) = close(image, &mut rng, &mut watch) {
            return Some(dead);
        }
    }
    let injected = source.injected();
    count.errors += injected.errors;
    count.late += injected.late;
    None
}

fn inject(disk: &Disk, rng: &mut Rng) {
    const KINDS: [Option<Kind>; 7] = [
        None,
        Some(Kind::Write),
        Some(Kind::DurableWrite),
        Some(Kind::Sync),
        Some(Kind::Create),
        Some(Kind::Rename),
        Some(Kind::SyncDirectory),
    ];
    disk.inject(Fault {
        kind: KINDS[rng.usize(..KINDS.len())],
        after: rng.u64(..30),
        count: rng.u64(1..3),
        error: std::io::ErrorKind::StorageFull,
    });
}

/// Writers and an operator at once.
fn work<'a>(site: Site<'a>, rng: &mut Rng, watch: &mut Watch<'_>) -> Option<Media> {
    let mut executor: Executor<'a> = Executor::new(&[site.disk, site.target], rng.u64(..));
    for name in ["writer 1", "writer 2", "writer 3"] {
        executor.spawn(name, workload::write(site, rng.fork(), rng.u32(2..8)));
    }
    let operations = rng.u32(..3);
    executor.spawn("operator", workload::operate(site, rng.fork(), operations));
    let cancel_at = if rng.u8(..4) == 0 { rng.u32(1..60) } else { u32::MAX };
    for step in 0.. {
        if step == cancel_at {
            executor.cancel_one();
        }
        if executor.step() == Step::Finished {
            break;
        }
        if let Some(dead) = watch.look() {
            return Some(dead);
        }
    }
    None
}

fn close(image: Image<SimDirectory>, rng: &mut Rng, watch: &mut Watch<'_>) -> Option<Media> {
    let mut executor = Executor::new(&[watch.source, watch.target], rng.u64(..));
    executor.spawn("close", async { drop(image.close().await) });
    watch.finish(&mut executor)
}

/// Looks at the medium after every step.
struct Watch<'a> {
    source: &'a Disk,
    target: &'a Disk,
    model: &'a RefCell<Model>,
    rng: Rng,
    /// How much had been done to both disks at the last look.
    seen: (u64, u64),
    after_kill: bool,
    steps_left: u32,
    /// How many errors had been injected at the last look.
    errors: u64,
    count: &'a mut Count,
}

impl Watch<'_> {
    fn finish(&mut self, executor: &mut Executor<'_>) -> Option<Media> {
        while executor.step() == Step::Moved {
            if let Some(dead) = self.look() {
                return Some(dead);
            }
        }
        None
    }

    /// Takes a crash image if anything has happened; returns what a kill leaves, if it is time.
    fn look(&mut self) -> Option<Media> {
        let seen = (self.source.activity(), self.target.activity());
        if seen == self.seen {
            return None;
        }
        self.seen = seen;
        self.steps_left -= 1;
        let errors = self.source.injected().errors + self.target.injected().errors;
        if errors > std::mem::replace(&mut self.errors, errors) && self.rng.u8(..3) == 0 {
            // Before anybody can act on the error.
            self.steps_left = self.steps_left.min(self.rng.u32(..3));
        }
        if self.steps_left == 0 {
            let rng = &mut self.rng;
            return Some(Media { source: self.source.kill(rng), target: self.target.kill(rng) });
        }
        let (source, target) = (self.source.snapshot(), self.target.snapshot());
        let loss = self.loss();
        let media = Media {
            source: source.power_loss(loss, &mut self.rng),
            target: target.power_loss(loss, &mut self.rng),
        };
        check::recovered(&media, &self.model.borrow(), self.rng.u64(..), self.count);
        self.count.after_kill += u64::from(self.after_kill);
        None
    }

    fn loss(&mut self) -> Loss {
        match self.rng.u8(..8) {
            0 | 1 => Loss::Everything,
            2 => Loss::Nothing,
            3 => Loss::Torn(Grain::Byte),
            4 => Loss::Torn(Grain::Sector),
            5 => Loss::Torn(Grain::Page),
            _ => Loss::Only(self.rng.u64(..)),
        }
    }
}
