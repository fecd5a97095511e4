//! How a model is explored, and what it means that it holds.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::model::Builder;
use loom::sync::Notify;
use loom::thread::{self, JoinHandle};

use crate::mutants::Mutant;

/// Accesses of one interleaving, at most. One that has more goes round in circles.
const MOST_BRANCHES: usize = 10_000;

/// Words of a thread's stack; loom's own are too small for an open image.
const STACK_WORDS: usize = 1 << 16;

/// How far a model is explored, and what it must find on the way.
pub(super) struct Model {
    /// How often a thread may be taken off in one interleaving although it could go on; without
    /// a bound every interleaving is tried.
    pub(super) preemptions: Option<usize>,
    /// Fewer interleavings than this would mean that the model no longer has its race in it.
    pub(super) floor: u64,
    /// The planted bugs that it must find.
    pub(super) planted: &'static [Mutant],
}

impl Model {
    /// Explores all interleavings of `run`, whose assertions must hold in each.
    pub(super) fn explore(&self, run: fn()) {
        self.explore_each(0..1, move |_| run());
    }

    /// The same for each of `cases`, one after the other.
    pub(super) fn explore_each(
        &self,
        cases: std::ops::Range<usize>,
        run: impl Fn(usize) + Copy + Send + Sync + 'static,
    ) {
        assert!(!self.planted.is_empty(), "a model has a bug that it must find");
        let thread = std::thread::current();
        let name = thread.name().expect("a test runs in a thread of its name");
        let count = || cases.clone().map(|case| self.count(move || run(case))).sum::<u64>();
        #[cfg(qbm_mutants)]
        super::planted::explore_planted(count);
        let (count, most) = (count(), self.preemptions);
        let bound = most.map_or("however many".to_owned(), |most| format!("at most {most}"));
        println!("{name}: {count} interleavings with {bound} preemptions");
        assert!(count >= self.floor, "{count} interleavings, and at least {} are due", self.floor);
        #[cfg(qbm_mutants)]
        super::planted::hunt_all(name, self.planted);
    }

    /// Explores, and returns how many interleavings there were.
    fn count(&self, run: impl Fn() + Send + Sync + 'static) -> u64 {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let mut builder = Builder::new();
        builder.max_branches = MOST_BRANCHES;
        builder.preemption_bound = self.preemptions;
        builder.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            run();
        });
        count.load(Ordering::Relaxed)
    }
}

/// A thread of a model.
pub(super) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().stack_size(STACK_WORDS).spawn(run).expect("loom has room for five")
}

/// Does `run` in a thread of its own, which has the room for it: of loom's first thread nobody can
/// choose the stack, and a close or a flush of an image needs more.
pub(super) fn with_room(run: impl FnOnce() + Send + 'static) {
    join([spawn(run)]);
}

/// Waits until all of `threads` have ended.
pub(super) fn join<T, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().expect("a thread that fails ends the model"))
}

/// Runs `future` to its end; it may be woken without a reason, once.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let alarm = Arc::new(Alarm(Notify::new()));
    let waker = Waker::from(Arc::clone(&alarm));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        alarm.0.wait();
    }
}

/// Polls `future` at most `polls` times and then drops it; says whether it came to its end.
pub(super) fn poll_and_drop<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let alarm = Arc::new(Alarm(Notify::new()));
    let waker = Waker::from(Arc::clone(&alarm));
    let mut future = pin!(future);
    for poll in 0..polls {
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return true;
        }
        if poll + 1 < polls {
            alarm.0.wait();
        }
    }
    false
}

/// What wakes the thread that runs a future.
struct Alarm(Notify);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}
