//! All there is on a small scale, nothing drawn: every workload of a few operations, on a flat image
//! and on overlays, the power cut at every step of its last operation and of the close after it, and
//! every part kept of what was not synced. What happens at once is for the drawn cases.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;
use qbm_core::{Host, Id, Persist};

use super::model::{GRANULE, Model};
use super::workload::{Site, perform};
use super::{Count, Media, Operation, Request, SIZE, Subject, check, open};
use crate::{Disk, Executor, Grain, Loss, SimHost, Step};

/// Changes not synced of which every part is kept once: 1,024 crash images at most.
const ALL_PARTS_OF: usize = 10;

/// The operations of which workloads are made; the last granule is a partial one.
const OPERATIONS: [fn(usize) -> Operation; 16] = [
    |_| Operation::Flush,
    |_| change(0..GRANULE, Request::Write, Persist::Later),
    |_| change(100..GRANULE + 1, Request::Write, Persist::Now),
    |_| change(SIZE - 1..SIZE, Request::Write, Persist::Later),
    |_| change(0..2 * GRANULE, Request::Discard, Persist::Later),
    |position| Operation::BackUp(position.to_string()),
    |position| Operation::GiveUp(Id(position as u128 + 1)),
    // Bitmaps of one byte, and of three as at first.
    |_| Operation::Resize(8 * GRANULE),
    |_| Operation::Resize(SIZE + GRANULE),
    |_| Operation::Add,
    |_| Operation::Remove,
    |_| Operation::Clear,
    |_| Operation::Disable,
    |_| Operation::Enable,
    |_| Operation::Merge,
    |_| Operation::Rebuild,
];

fn change(range: Range<usize>, what: Request, persist: Persist) -> Operation {
    Operation::Change { range, what, persist }
}

/// How many workloads there are of up to `length` operations on a flat image, and of one less on overlays.
pub fn workloads(length: u32) -> u64 {
    (1..=length).flat_map(of_length).map(|(_, length)| sequences(length)).sum()
}

/// What is run at `length`, and how many operations on it: overlays one less, for they take longer.
fn of_length(length: u32) -> [(Subject, u32); Subject::ALL.len()] {
    Subject::ALL
        .map(|subject| (subject, if subject == Subject::Flat { length } else { length - 1 }))
}

/// How many sequences of `length` operations there are; none without an operation.
fn sequences(length: u32) -> u64 {
    if length == 0 { 0 } else { (OPERATIONS.len() as u64).pow(length) }
}

/// The workload `number`, and what it is on; the shorter ones come first.
fn workload(mut number: u64) -> (Subject, Vec<Operation>) {
    for (subject, length) in (1..).flat_map(of_length) {
        if number < sequences(length) {
            return (subject, sequence(number, length));
        }
        number -= sequences(length);
    }
    unreachable!("there are workloads of every length")
}

/// The sequence `number` of `length` operations.
fn sequence(number: u64, length: u32) -> Vec<Operation> {
    let count = OPERATIONS.len() as u64;
    let digit = |position: u32| number / count.pow(position) % count;
    let operation = |position: u32| {
        let which = usize::try_from(digit(position)).expect("one of a few");
        OPERATIONS[which](position as usize)
    };
    (0..length).map(operation).collect()
}

/// Runs the workload `number`, with the power cut at every step of its last operation and of the
/// close. The steps before are those of a shorter workload.
///
/// # Panics
///
/// If a promise is broken; the message says which, and the last line how to see it again.
pub fn run_workload(number: u64) -> Count {
    let replay = Replay(number);
    let mut count = Count { cases: 1, ..Count::default() };
    let (subject, mut operations) = workload(number);
    let media = subject.begun();
    let (source, target) = (Disk::new(media.source.clone(), 1), Disk::new(media.target.clone(), 2));
    let host: Arc<dyn Host> = Arc::new(SimHost::new(3));
    let model = RefCell::new(Model::new(subject));
    let mut cuts = Cuts {
        source: &source,
        target: &target,
        model: &model,
        seen: (0, 0),
        checked: HashSet::new(),
    };

    let mut opened = None;
    cuts.without(async { opened = Some(open(&source, &host).await.expect("open")) });
    let image = opened.expect("the task has ended");
    let site = Site { image: &image, disk: &source, target: &target, host: &host, model: &model };
    let last = operations.pop().expect("a workload has an operation");
    for operation in operations {
        cuts.without(perform(site, operation));
    }
    cuts.at_every_step(perform(site, last), &mut count);
    cuts.at_every_step(async { image.close().await.expect("close") }, &mut count);
    drop(replay);
    count
}

/// Says how to see a failure again, if there is one.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(number) = self;
            eprintln!("workload {number}: {:?}", workload(*number));
            eprintln!("replay: cargo run --release -p qbm-sim -- --workload {number}");
        }
    }
}

/// The power cuts.
struct Cuts<'a> {
    source: &'a Disk,
    target: &'a Disk,
    model: &'a RefCell<Model>,
    /// How much had been done to both disks at the last cut.
    seen: (u64, u64),
    /// What has been left already, and when, by the model's time: the digests of both.
    checked: HashSet<u64>,
}

impl Cuts<'_> {
    fn without(&self, work: impl Future<Output = ()>) {
        let mut executor = Executor::new(&[self.source, self.target], 4);
        executor.spawn("work", work);
        executor.finish();
    }

    fn at_every_step(&mut self, work: impl Future<Output = ()>, count: &mut Count) {
        let mut executor = Executor::new(&[self.source, self.target], 4);
        executor.spawn("work", work);
        while executor.step() == Step::Moved {
            let seen = (self.source.activity(), self.target.activity());
            if std::mem::replace(&mut self.seen, seen) != seen {
                self.cut(count);
            }
        }
    }

    /// Cuts the power in copies, once for each thing that it may leave.
    fn cut(&mut self, count: &mut Count) {
        let before = Media::of(self.source, self.target);
        let mut check = |of_source: Loss, of_target: Loss, seed: u64| {
            let mut rng = Rng::with_seed(seed);
            let media = before.power_loss((of_source, of_target), &mut rng, count);
            let model = self.model.borrow();
            let mut hasher = DefaultHasher::new();
            (model.time(), media.source.contents(), media.target.contents()).hash(&mut hasher);
            if self.checked.insert(hasher.finish()) {
                check::recovered(&media, &model, seed, count);
            }
        };
        for of_source in parts(before.source.pending()) {
            for of_target in parts(before.target.pending()) {
                check(of_source, of_target, 0);
            }
        }
        if before.source.pending() + before.target.pending() > 0 {
            for grain in [Grain::Byte, Grain::Sector, Grain::Page] {
                for seed in 0..2 {
                    check(Loss::Torn(grain), Loss::Torn(grain), seed);
                }
            }
        }
    }
}

/// Every part of `pending` changes; of very many, each alone, each alone missing, all and none.
fn parts(pending: usize) -> Vec<Loss> {
    if pending <= ALL_PARTS_OF {
        return (0..1 << pending).map(Loss::Only).collect();
    }
    let one = |index: usize| 1_u64 << index.min(63);
    let alone = (0..pending).map(|index| Loss::Only(one(index)));
    let missing = (0..pending).map(|index| Loss::Only(!one(index)));
    [Loss::Everything, Loss::Nothing].into_iter().chain(alone).chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_another_workload() {
        let all: Vec<String> =
            (0..workloads(2)).map(|number| format!("{:?}", workload(number))).collect();
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(all.len(), 16 + 16 * 16 + 2 * 16);
        let is = |number: u64, subject: Subject, length: usize| {
            let (on, operations) = workload(number);
            assert_eq!((on, operations.len()), (subject, length), "{number}");
        };
        is(15, Subject::Flat, 1);
        is(16, Subject::Flat, 2);
        is(16 + 16 * 16, Subject::OverShort, 1);
        is(workloads(2) - 1, Subject::OverLong, 1);
        is(workloads(2), Subject::Flat, 3);
    }

    #[test]
    fn every_part_of_a_few_changes_is_kept_once() {
        assert_eq!(parts(0).len(), 1);
        assert_eq!(parts(10).len(), 1024);
        assert_eq!(parts(11).len(), 2 + 2 * 11);
    }
}
