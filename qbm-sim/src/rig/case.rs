//! A drawn case: processes one after the other, of which three crash at least. All that they are going
//! to do is drawn first, so that a case that finds something can be made smaller.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use fastrand::Rng;

use super::model::Model;
use super::phase;
use super::{Count, DATA, MAX_SIZE, Operation, SIZE, Subject, subject};
use crate::{Fault, Harm, Kind};

/// What the processes of a case do. Each family has draws of its own, so that its cases stay what they
/// are when another gets more operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Three writers, and an operator of backups, persistent bitmaps and sizes.
    #[default]
    Plain,
    /// The same, with bitmaps that come and go in memory, and jobs beside all that.
    Wide,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Wide];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Wide => "wide",
        }
    }
}

/// How many processes of a case crash.
const CRASHES: usize = 3;

/// What some processes do, and how each ends.
#[derive(Clone, Debug)]
pub struct Case {
    seed: u64,
    /// Which order of what happens at once.
    schedule: u64,
    lives: Vec<Life>,
    /// The power is cut in a copy at one of so many steps.
    cut_one_in: u32,
}

/// What one process does.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// An error that a call will meet.
    pub(super) fault: Option<Fault>,
    /// One of its tasks is dropped at some step.
    pub(super) drops: bool,
    /// What its tasks do, each one thing after the other: writers, and an operator.
    pub(super) tasks: Vec<Vec<Operation>>,
    pub(super) end: End,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It closes the image.
    Close,
    /// It is killed.
    Kill,
    /// The power is cut.
    PowerLoss,
}

impl Case {
    /// The case of `seed` in `family`.
    pub fn draw(family: Family, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut lives = Vec::new();
        for _ in 0..CRASHES {
            if rng.u8(..8) == 0 {
                lives.push(Life::draw(&mut rng, family, End::Close));
            }
            let end = if rng.bool() { End::Kill } else { End::PowerLoss };
            lives.push(Life::draw(&mut rng, family, end));
        }
        lives.push(Life::draw(&mut rng, family, End::Close));
        Self { seed, schedule: 0, lives, cut_one_in: 10 }
    }

    /// How many parts it has that can be left out: processes, errors, drops and operations.
    pub fn parts(&self) -> usize {
        self.lives.iter().map(|life| 3 + life.tasks.iter().map(Vec::len).sum::<usize>()).sum()
    }

    /// The same with those parts alone, in another order of what happens at once, and with the power
    /// cut at every step.
    pub fn only(mut self, parts: &BTreeSet<usize>, schedule: u64) -> Self {
        let mut numbers = 0..;
        let mut is_kept = || numbers.next().is_some_and(|number| parts.contains(&number));
        self.lives.retain_mut(|life| {
            let (lives, errs, drops) = (is_kept(), is_kept(), is_kept());
            life.fault = life.fault.filter(|_| errs);
            life.drops &= drops;
            life.tasks.iter_mut().for_each(|task| task.retain(|_| is_kept()));
            lives
        });
        Self { schedule, cut_one_in: 1, ..self }
    }

    /// Runs it.
    ///
    /// # Panics
    ///
    /// If a promise is broken; the message says which.
    pub fn run(&self) -> Count {
        let mut rng = Rng::with_seed(self.seed ^ self.schedule.rotate_left(32));
        let mut count = Count { cases: 1, ..Count::default() };
        let subject = Subject::of_case(self.seed);
        let model = RefCell::new(Model::new(subject));
        let mut media = subject.begun().clone();
        let mut crashed = false;
        for life in &self.lives {
            let plan = phase::Plan { life, seed: rng.u64(..), cut_one_in: self.cut_one_in };
            let died = phase::run(&media, &model, &plan, &mut count);
            media = died.media;
            model.borrow_mut().process_died(media.source.has_lost(DATA));
            if life.end == End::PowerLoss {
                model.borrow_mut().power_was_cut(&subject::left_in(&media));
            }
            let crashes = life.end != End::Close;
            count.crashes += u64::from(crashes);
            for (harm, done) in [
                (Harm::Kill, life.end == End::Kill),
                (Harm::CrashInRecovery, crashed && crashes && !died.opened),
                (Harm::DoubleCrash, crashed && crashes),
            ] {
                if done {
                    count.harms.note(harm);
                }
            }
            crashed = crashes;
        }
        let model = model.borrow();
        count.mirrors += model.copies().len() as u64;
        count.streams += model.streams;
        count.sets += model.sets;
        count
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, life) in self.lives.iter().enumerate() {
            writeln!(out, "process {}, which ends by {:?}", number + 1, life.end)?;
            if let Some(fault) = &life.fault {
                writeln!(out, "  meets {fault:?}")?;
            }
            if life.drops {
                writeln!(out, "  drops a task")?;
            }
            for (task, operations) in life.tasks.iter().enumerate() {
                for operation in operations {
                    writeln!(out, "  task {}: {operation:?}", task + 1)?;
                }
            }
        }
        Ok(())
    }
}

impl Life {
    fn draw(rng: &mut Rng, family: Family, end: End) -> Self {
        let fault = (rng.u8(..3) == 0).then(|| draw_fault(rng));
        let mut tasks = Vec::new();
        for _writer in 0..3 {
            let count = rng.u32(2..6);
            tasks.push((0..count).map(|_| draw_request(rng, family)).collect());
        }
        match family {
            Family::Plain => {
                let count = rng.u32(..3);
                tasks.push((0..count).map(|turn| Operation::draw_operator(rng, turn)).collect());
            }
            Family::Wide => {
                let count = rng.u32(2..6);
                let operation = |turn| Operation::draw_wide_operator(rng, turn);
                tasks.push((0..count).map(operation).collect());
                let count = rng.u32(..3);
                tasks.push((0..count).map(|_| Operation::draw_job(rng)).collect());
            }
        }
        Self { fault, drops: rng.u8(..4) == 0, tasks, end }
    }
}

fn draw_request(rng: &mut Rng, family: Family) -> Operation {
    let size = if rng.u8(..4) == 0 { MAX_SIZE } else { SIZE };
    match family {
        Family::Plain => Operation::draw_request(rng, size),
        Family::Wide => Operation::draw_wide_request(rng, size),
    }
}

fn draw_fault(rng: &mut Rng) -> Fault {
    const KINDS: [Option<Kind>; 6] = [
        Some(Kind::Write),
        Some(Kind::DurableWrite),
        Some(Kind::Sync),
        Some(Kind::Create),
        Some(Kind::Rename),
        Some(Kind::SyncDirectory),
    ];
    // No read fails: what is then doubted is for `tests/every_call_fails.rs`.
    let error = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other][rng.usize(..2)];
    Fault {
        kind: KINDS[rng.usize(..KINDS.len())],
        after: rng.u64(..30),
        count: rng.u64(1..3),
        error,
    }
}
