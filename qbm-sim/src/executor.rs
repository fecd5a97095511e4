//! A deterministic executor: which task runs next, and which operation ends next, is by seed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use fastrand::Rng;

use crate::world::Disk;

/// How often another choice is made where one falls on an operation whose future was dropped: those
/// take long, so that they happen after whatever should have waited for them.
const SLOWER: u32 = 2;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A task ran, or an operation ended.
    Moved,
    /// All tasks are finished.
    Finished,
}

/// Tasks that work on disks.
pub struct Executor<'a> {
    disks: Vec<Disk>,
    rng: Rng,
    tasks: Vec<Task<'a>>,
}

struct Task<'a> {
    name: &'static str,
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    ready: Arc<Ready>,
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl<'a> Executor<'a> {
    /// An executor for tasks that work on `disks`, with the choices of `seed`.
    pub fn new(disks: &[&Disk], seed: u64) -> Self {
        let disks = disks.iter().map(|disk| (*disk).clone()).collect();
        Self { disks, rng: Rng::with_seed(seed), tasks: Vec::new() }
    }

    /// Adds a task; `name` is for the report of a deadlock.
    pub fn spawn(&mut self, name: &'static str, future: impl Future<Output = ()> + 'a) {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        self.tasks.push(Task { name, future: Box::pin(future), ready });
    }

    /// Drops a task by chance, wherever it is; returns whether there was one.
    pub fn cancel_one(&mut self) -> bool {
        if self.tasks.is_empty() {
            return false;
        }
        let index = self.rng.usize(..self.tasks.len());
        drop(self.tasks.swap_remove(index));
        true
    }

    /// Lets one task run, or one operation end.
    ///
    /// # Panics
    ///
    /// If tasks are left and none can ever run: a wake-up was lost.
    pub fn step(&mut self) -> Step {
        if self.tasks.is_empty() {
            return Step::Finished;
        }
        let ready: Vec<usize> = (0..self.tasks.len())
            .filter(|index| self.tasks[*index].ready.0.load(Ordering::Acquire))
            .collect();
        let under_way: usize = self.disks.iter().map(Disk::under_way).sum();
        if ready.is_empty() && under_way == 0 {
            let stuck: Vec<_> = self.tasks.iter().map(|task| task.name).collect();
            panic!("no progress: {stuck:?} wait, and nothing is under way");
        }
        let mut choice = self.rng.usize(..ready.len() + under_way);
        for _ in 0..SLOWER {
            if choice >= ready.len() && self.is_dropped(choice - ready.len()) {
                choice = self.rng.usize(..ready.len() + under_way);
            }
        }
        match ready.get(choice) {
            Some(index) => self.poll(*index),
            None => self.complete(choice - ready.len()),
        }
        Step::Moved
    }

    fn poll(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.ready.0.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task.ready));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(self.tasks.swap_remove(index));
        }
    }

    fn complete(&self, choice: usize) {
        let (disk, index) = self.operation(choice);
        disk.complete(index);
    }

    /// Whether the future of an operation is gone.
    fn is_dropped(&self, choice: usize) -> bool {
        let (disk, index) = self.operation(choice);
        disk.is_dropped(index)
    }

    /// An operation by its number among all that are under way.
    fn operation(&self, mut choice: usize) -> (&Disk, usize) {
        for disk in &self.disks {
            let count = disk.under_way();
            if choice < count {
                return (disk, choice);
            }
            choice -= count;
        }
        panic!("there are not so many operations under way");
    }

    /// Steps until all tasks are finished.
    pub fn finish(&mut self) {
        while self.step() == Step::Moved {}
    }
}

/// Runs one future on `disk` to its end.
///
/// # Panics
///
/// If it can never end.
pub fn run<T>(disk: &Disk, seed: u64, future: impl Future<Output = T>) -> T {
    let mut result = None;
    let mut executor = Executor::new(&[disk], seed);
    executor.spawn("run", async { result = Some(future.await) });
    executor.finish();
    drop(executor);
    result.expect("a finished task has a result")
}
