//! Driving a job: polling its future on this thread, and telling it the time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use qbm_core::job::JobControl;

/// How often a job that waits is told the time.
const SLICE: Duration = Duration::from_millis(50);

/// Wakes a thread that has parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `job` to its end.
pub(super) fn drive<T>(control: &JobControl, job: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut job = pin!(job);
    let begun = Instant::now();
    let mut next = SLICE;
    loop {
        if let Poll::Ready(done) = job.as_mut().poll(&mut context) {
            return done;
        }
        let now = begun.elapsed();
        if now < next {
            thread::park_timeout(next - now);
        } else {
            control.pass(now);
            next = now + SLICE;
        }
    }
}
