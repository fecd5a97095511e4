//! One life of a process: open, work, end, with crash images on the way.

use std::cell::RefCell;
use std::sync::Arc;

use fastrand::Rng;
use qbm_core::{Host, Image};

use super::case::{End, Life};
use super::model::Model;
use super::workload::{self, Site};
use super::{Count, Media, check, open};
use crate::{Disk, Executor, Grain, Loss, SimDirectory, SimHost, Step};

/// What is going to happen.
pub(super) struct Plan<'a> {
    pub(super) life: &'a Life,
    /// Decides what happens at once, and when a crash comes.
    pub(super) seed: u64,
    /// The power is cut in a copy at one of so many steps.
    pub(super) cut_one_in: u32,
}

/// What a process leaves.
pub(super) struct Died {
    pub(super) media: Media,
    /// Whether it had opened the image by then.
    pub(super) opened: bool,
}

/// Runs a process on `media`.
pub(super) fn run(
    media: &Media,
    model: &RefCell<Model>,
    plan: &Plan<'_>,
    count: &mut Count,
) -> Died {
    let mut rng = Rng::with_seed(plan.seed);
    let source = Disk::new(media.source.clone(), rng.u64(..));
    let target = Disk::new(media.target.clone(), rng.u64(..));
    let host: Arc<dyn Host> = Arc::new(SimHost::new(rng.u64(..)));
    if let Some(fault) = plan.life.fault {
        source.inject(fault);
    }
    let mut watch = Watch {
        source: &source,
        target: &target,
        model,
        seen: (0, 0),
        cut_one_in: plan.cut_one_in,
        crash: Crash::of(plan.life, &mut rng),
        errors: 0,
        rng: rng.fork(),
        count,
    };
    let opened = live(plan.life, &host, &mut rng, &mut watch);
    let media = watch.die(plan.life.end);
    let injected = source.injected();
    count.errors += injected.errors;
    count.harms.add(&injected.harms);
    Died { media, opened }
}

/// Opens, works and closes, up to the crash; returns whether it had opened.
fn live(life: &Life, host: &Arc<dyn Host>, rng: &mut Rng, watch: &mut Watch<'_>) -> bool {
    let (source, target, model) = (watch.source, watch.target, watch.model);
    let mut opened = None;
    let mut executor = Executor::new(&[source, target], rng.u64(..));
    executor.spawn("open", async { opened = Some(open(source, host).await) });
    let over = watch.finish(&mut executor);
    drop(executor);
    // With a fault it may fail; then there is nothing to work on, and nothing is lost.
    let Some(Ok(image)) = opened.filter(|_| !over) else { return false };
    model.borrow_mut().opened(image.size());
    let site = Site { image: &image, disk: source, target, host, model };
    if work(site, life, rng, watch) || life.end != End::Close {
        return true;
    }
    close(image, rng, watch);
    true
}

/// All tasks at once; returns whether it crashed.
fn work<'a>(site: Site<'a>, life: &Life, rng: &mut Rng, watch: &mut Watch<'_>) -> bool {
    let mut executor: Executor<'a> = Executor::new(&[site.disk, site.target], rng.u64(..));
    for (name, operations) in
        ["writer 1", "writer 2", "writer 3", "operator", "job"].iter().zip(&life.tasks)
    {
        executor.spawn(name, workload::perform_all(site, operations.clone()));
    }
    let drop_at = rng.u32(1..60);
    for step in 0.. {
        if life.drops && step == drop_at {
            let before = site.disk.injected().late;
            executor.cancel_one();
            watch.count.late += site.disk.injected().late - before;
        }
        if executor.step() == Step::Finished {
            break;
        }
        if watch.look() {
            return true;
        }
    }
    false
}

fn close(image: Image<SimDirectory>, rng: &mut Rng, watch: &mut Watch<'_>) {
    let mut executor = Executor::new(&[watch.source, watch.target], rng.u64(..));
    executor.spawn("close", async { drop(image.close().await) });
    let crashed = watch.finish(&mut executor);
    assert!(!crashed, "a process that closes does not crash");
}

/// How many more steps there are before the crash.
#[derive(Clone, Copy, Debug)]
struct Crash(Option<u32>);

impl Crash {
    fn of(life: &Life, rng: &mut Rng) -> Self {
        let operations = life.tasks.iter().map(Vec::len).sum::<usize>();
        // Opening takes 20 to 40 steps, and an operation about 10.
        let work = u32::try_from(operations).expect("there are few") * 10;
        let within = if rng.u8(..4) == 0 { 40 } else { 40 + work };
        Self((life.end != End::Close).then(|| rng.u32(1..within)))
    }

    /// A step was made; returns whether it is time.
    fn comes(&mut self) -> bool {
        self.0.as_mut().is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        })
    }

    /// It comes within so many steps.
    fn hasten(&mut self, steps: u32) {
        self.0 = self.0.map(|left| left.min(steps));
    }
}

/// Looks at the medium after every step.
struct Watch<'a> {
    source: &'a Disk,
    target: &'a Disk,
    model: &'a RefCell<Model>,
    rng: Rng,
    /// How much had been done to both disks at the last look.
    seen: (u64, u64),
    cut_one_in: u32,
    crash: Crash,
    /// How many errors had been injected at the last look.
    errors: u64,
    count: &'a mut Count,
}

impl Watch<'_> {
    /// Returns whether the process crashed before all tasks were finished.
    fn finish(&mut self, executor: &mut Executor<'_>) -> bool {
        while executor.step() == Step::Moved {
            if self.look() {
                return true;
            }
        }
        false
    }

    /// If anything has happened, takes a crash image by chance; returns whether the process is to crash.
    fn look(&mut self) -> bool {
        let seen = (self.source.activity(), self.target.activity());
        if seen == self.seen {
            return false;
        }
        self.seen = seen;
        let errors = self.source.injected().errors;
        if errors > std::mem::replace(&mut self.errors, errors) && self.rng.u8(..3) == 0 {
            // Before anybody can act on the error.
            self.crash.hasten(self.rng.u32(1..4));
        }
        if self.crash.comes() {
            return true;
        }
        if self.rng.u32(..self.cut_one_in) == 0 {
            self.cut();
        }
        false
    }

    /// Cuts the power in a copy, and checks what is left.
    fn cut(&mut self) -> Media {
        let loss = self.loss();
        let before = Media::of(self.source, self.target);
        let media = before.power_loss((loss, loss), &mut self.rng, self.count);
        check::recovered(&media, &self.model.borrow(), self.rng.u64(..), self.count);
        media
    }

    /// What the process leaves behind.
    fn die(&mut self, end: End) -> Media {
        if end == End::PowerLoss {
            return self.cut();
        }
        let (source, target) = (self.source.kill(&mut self.rng), self.target.kill(&mut self.rng));
        Media { source, target }
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
