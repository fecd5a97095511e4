//! The medium at work: operations under way, who waits for them, and faults.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use fastrand::Rng;
use qbm_core::Lock;

use crate::fault::{Fault, Injected, Kind};
use crate::medium::{Change, File, FileId, Medium, NameChange};

/// What an operation does when it is complete.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Nothing that lasts.
    None,
    Change(FileId, Change),
    ChangeDurably(FileId, Change),
    /// Everything of a file up to a sequence number.
    Sync(FileId, u64),
    /// Reads show what is durable; the seed decides what that is.
    Invalidate(FileId, u64),
    Name(NameChange),
    /// All names up to a sequence number.
    SyncNames(u64),
}

/// An operation under way.
#[derive(Debug)]
struct Operation {
    id: u64,
    file: Option<FileId>,
    effect: Effect,
    fails: Option<io::ErrorKind>,
    /// `None` once its future was dropped.
    waker: Option<Waker>,
}

/// Everything that a disk is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) medium: Medium,
    operations: Vec<Operation>,
    finished: Vec<(u64, io::Result<()>)>,
    /// Who waits for dropped operations to end.
    settling: Vec<Waker>,
    next: u64,
    /// Complete everything at once, for users without an [`Executor`](crate::Executor).
    immediate: bool,
    pub(crate) rng: Rng,
    faults: Vec<Fault>,
    injected: Injected,
    calls: u64,
    completions: u64,
    /// Locks held: file, handle, lock.
    pub(crate) locks: Vec<(FileId, u64, Lock)>,
    handles: u64,
}

/// A simulated disk. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct Disk {
    pub(crate) world: Arc<Mutex<World>>,
}

impl Disk {
    /// A disk with `medium`, whose choices follow `seed`.
    pub fn new(medium: Medium, seed: u64) -> Self {
        let world = World {
            medium,
            operations: Vec::new(),
            finished: Vec::new(),
            settling: Vec::new(),
            next: 0,
            immediate: false,
            rng: Rng::with_seed(seed),
            faults: Vec::new(),
            injected: Injected::default(),
            calls: 0,
            completions: 0,
            locks: Vec::new(),
            handles: 0,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// A disk whose operations are complete at once, for use without an executor of ours.
    pub fn immediate(medium: Medium, seed: u64) -> Self {
        let disk = Self::new(medium, seed);
        disk.lock().immediate = true;
        disk
    }

    /// Adds an error to come.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Takes back all errors to come.
    pub fn calm(&self) {
        self.lock().faults.clear();
    }

    /// What has been injected.
    pub fn injected(&self) -> Injected {
        self.lock().injected
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Grows whenever something may have changed on the medium.
    pub fn activity(&self) -> u64 {
        let world = self.lock();
        world.calls + world.completions
    }

    /// The medium as a power loss finds it: operations under way are pending.
    pub fn snapshot(&self) -> Medium {
        let world = self.lock();
        let mut medium = world.medium.clone();
        for operation in &world.operations {
            match &operation.effect {
                Effect::Change(file, change) | Effect::ChangeDurably(file, change) => {
                    let sequence = medium.next_sequence();
                    let pending =
                        crate::medium::Pending { sequence, change: change.clone(), lost: false };
                    medium.files[*file].pending.push(pending);
                }
                Effect::Name(change) => {
                    let sequence = medium.next_sequence();
                    medium.pending_names.push((sequence, change.clone()));
                }
                Effect::None | Effect::Sync(..) | Effect::Invalidate(..) | Effect::SyncNames(_) => {
                }
            }
        }
        medium
    }

    /// The medium as `kill -9` leaves it: what was under way has happened or not, by chance.
    pub fn kill(&self, rng: &mut Rng) -> Medium {
        let world = self.lock();
        let mut medium = world.medium.clone();
        for operation in &world.operations {
            if rng.bool() {
                complete(&mut medium, operation.effect.clone());
            } else if let Effect::Change(file, Change::Write(offset, data))
            | Effect::ChangeDurably(file, Change::Write(offset, data)) = &operation.effect
            {
                let part = data[..rng.usize(..=data.len())].into();
                complete(&mut medium, Effect::Change(*file, Change::Write(*offset, part)));
            }
        }
        medium
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does an operation: submitted at the first poll, complete when the executor says so.
    pub(crate) async fn operate(
        &self,
        kind: Kind,
        file: Option<FileId>,
        effect: impl FnOnce(&mut World) -> io::Result<Effect>,
    ) -> io::Result<()> {
        let id = {
            let mut world = self.lock();
            let fails = world.count_call(kind);
            let effect = effect(&mut world)?;
            world.submit(file, effect, fails)
        };
        let mut guard = Abandon { disk: self, id, done: false };
        let result = std::future::poll_fn(|context| {
            let mut world = self.lock();
            if let Some(place) = world.finished.iter().position(|(other, _)| *other == id) {
                return Poll::Ready(world.finished.swap_remove(place).1);
            }
            if let Some(operation) = world.operations.iter_mut().find(|other| other.id == id) {
                operation.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
        guard.done = true;
        result
    }

    /// Waits until no dropped operation of `file` is under way.
    pub(crate) async fn settle(&self, file: FileId) {
        std::future::poll_fn(|context| {
            let mut world = self.lock();
            if !world.operations.iter().any(|op| op.file == Some(file) && op.waker.is_none()) {
                return Poll::Ready(());
            }
            world.settling.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// How many operations are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.lock().operations.len()
    }

    /// Whether nobody waits for the operation at `index`: its future was dropped.
    pub(crate) fn is_dropped(&self, index: usize) -> bool {
        self.lock().operations[index].waker.is_none()
    }

    /// Completes the operation at `index`.
    pub(crate) fn complete(&self, index: usize) {
        let wakers = self.lock().complete(index);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Lets an operation go on alone when its future is dropped.
struct Abandon<'a> {
    disk: &'a Disk,
    id: u64,
    done: bool,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut world = self.disk.lock();
        if let Some(operation) = world.operations.iter_mut().find(|other| other.id == self.id) {
            operation.waker = None;
            world.injected.late += 1;
        }
        let id = self.id;
        world.finished.retain(|(other, _)| *other != id);
    }
}

impl World {
    fn count_call(&mut self, kind: Kind) -> Option<io::ErrorKind> {
        self.calls += 1;
        let struck = self.faults.iter_mut().find_map(|fault| {
            let error = fault.error;
            fault.strikes(kind).then_some(error)
        });
        if let Some(error) = struck {
            self.injected.note(kind, error);
        }
        struck
    }

    fn submit(
        &mut self,
        file: Option<FileId>,
        effect: Effect,
        fails: Option<io::ErrorKind>,
    ) -> u64 {
        self.next += 1;
        let id = self.next;
        // A waker of nobody, until the first poll brings the real one.
        let waker = Some(Waker::noop().clone());
        self.operations.push(Operation { id, file, effect, fails, waker });
        if self.immediate {
            let last = self.operations.len() - 1;
            self.complete(last);
        }
        id
    }

    fn complete(&mut self, index: usize) -> Vec<Waker> {
        let Operation { id, effect, fails, waker, .. } = self.operations.swap_remove(index);
        let result = match fails {
            None => {
                complete(&mut self.medium, effect);
                Ok(())
            }
            Some(error) => {
                let all = self.rng.bool();
                fail(&mut self.medium, effect, all);
                Err(error.into())
            }
        };
        self.completions += 1;
        let mut wakers = Vec::new();
        match waker {
            Some(waker) => {
                self.finished.push((id, result));
                wakers.push(waker);
            }
            None => wakers.append(&mut self.settling),
        }
        wakers
    }

    pub(crate) fn new_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    pub(crate) fn file(&mut self, id: FileId) -> &mut File {
        &mut self.medium.files[id]
    }
}

/// Does what a complete operation does.
fn complete(medium: &mut Medium, effect: Effect) {
    match effect {
        Effect::None => {}
        Effect::Change(file, change) => {
            let sequence = medium.next_sequence();
            medium.files[file].change(sequence, change);
        }
        Effect::ChangeDurably(file, change) => medium.files[file].change_durably(&change),
        Effect::Sync(file, sequence) => medium.files[file].sync(sequence),
        Effect::Invalidate(file, seed) => {
            medium.files[file].invalidate(&mut Rng::with_seed(seed));
        }
        Effect::Name(change) => {
            change.apply(&mut medium.names);
            let sequence = medium.next_sequence();
            medium.pending_names.push((sequence, change));
        }
        Effect::SyncNames(sequence) => {
            let pending = std::mem::take(&mut medium.pending_names);
            for (number, change) in pending {
                if number <= sequence {
                    change.apply(&mut medium.durable_names);
                } else {
                    medium.pending_names.push((number, change));
                }
            }
        }
    }
}

/// Does what a failed operation does: a part, or all with the error a lie.
fn fail(medium: &mut Medium, effect: Effect, all: bool) {
    match effect {
        // The page cache has it, and takes it for written.
        Effect::ChangeDurably(file, change) => {
            let sequence = medium.next_sequence();
            medium.files[file].change(sequence, change);
            medium.files[file].fail_sync(sequence);
        }
        Effect::Sync(file, sequence) => medium.files[file].fail_sync(sequence),
        // Names may be on the medium although the sync of them failed.
        Effect::SyncNames(_) => {}
        effect @ Effect::Change(..) if all => complete(medium, effect),
        Effect::None | Effect::Change(..) | Effect::Invalidate(..) | Effect::Name(_) => {}
    }
}
