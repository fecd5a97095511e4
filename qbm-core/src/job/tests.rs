//! What the handle of a job answers, state by state.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Group, JobControl, JobEvent, JobOptions, Refused, Status, Verb};
use crate::Error;

/// What `future` has come to, without waiting.
fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A job, and the states that its observer was told of.
fn observed(options: JobOptions, group: &Arc<Group>) -> (JobControl, Arc<Mutex<Vec<Status>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let observer = move |event: JobEvent, _: &_| {
        if let JobEvent::Status(status) = event {
            told.lock().expect("no test panics here").push(status);
        }
    };
    (JobControl::new("job", options, Arc::clone(group), Box::new(observer)), seen)
}

fn by_hand() -> JobOptions {
    JobOptions { auto_finalize: false, auto_dismiss: false, ..JobOptions::default() }
}

#[test]
fn the_whole_life_of_a_job_is_told_in_order() {
    let (job, seen) = observed(by_hand(), &Arc::default());
    job.begin();
    assert!(poll(job.checkpoint(0)).is_ready());
    job.pause().expect("it runs");
    assert!(poll(job.checkpoint(0)).is_pending());
    job.resume().expect("it is paused");
    assert!(poll(job.checkpoint(0)).is_ready());
    job.ready();
    let settle = job.settle();
    let mut settle = pin!(settle);
    let mut context = Context::from_waker(Waker::noop());
    assert!(settle.as_mut().poll(&mut context).is_pending());
    job.finalize().expect("it is pending");
    let settled = settle.as_mut().poll(&mut context);
    assert!(matches!(settled, Poll::Ready(Ok(()))));
    job.conclude(&Ok(()));
    job.dismiss().expect("it has concluded");
    use Status::{Concluded, Created, Null, Paused, Pending, Ready, Running, Waiting};
    let life = [Created, Running, Paused, Running, Ready, Waiting, Pending, Concluded, Null];
    assert_eq!(*seen.lock().expect("no test panics here"), life);
}

#[test]
fn what_a_job_cannot_do_is_refused_in_the_words_of_qemu() {
    let (job, _) = observed(by_hand(), &Arc::default());
    job.begin();
    assert_eq!(job.resume(), Err(Refused::NotPaused));
    job.pause().expect("it runs");
    assert_eq!(job.pause(), Err(Refused::AlreadyPaused));
    assert_eq!(job.cancel_gently(), Err(Refused::Paused("job".to_owned())));
    let refused = job.complete().expect_err("it is not ready");
    let text = "Job 'job' in state 'running' cannot accept command verb 'complete'";
    assert_eq!(refused.to_string(), text);
    let refused =
        Refused::Status { id: "job".to_owned(), status: Status::Running, verb: Verb::Dismiss };
    assert_eq!(job.dismiss(), Err(refused));
}

#[test]
fn a_cancelled_job_ends_at_its_next_step_even_if_it_is_paused() {
    let (job, _) = observed(by_hand(), &Arc::default());
    job.begin();
    job.pause().expect("it runs");
    assert!(poll(job.checkpoint(0)).is_pending());
    job.cancel().expect("it is paused");
    let Poll::Ready(ended) = poll(job.checkpoint(0)) else { panic!("it waits") };
    assert!(matches!(ended, Err(Error::Cancelled)));
    job.conclude(&ended);
    let info = job.info();
    assert!(info.cancelled);
    assert_eq!(info.error.as_deref(), Some("Operation canceled"));
}

#[test]
fn what_was_decided_to_count_can_no_longer_be_cancelled() {
    let (job, _) = observed(JobOptions::default(), &Arc::default());
    job.begin();
    assert!(matches!(poll(job.settle()), Poll::Ready(Ok(()))));
    job.cancel().expect("it is pending, and the answer comes too late");
    assert!(matches!(poll(job.checkpoint(0)), Poll::Ready(Ok(()))));
}

#[test]
fn one_that_is_finalized_by_hand_keeps_its_group_waiting_and_finalizes_all() {
    let group = Arc::default();
    let (one, _) = observed(JobOptions::default(), &group);
    let (two, _) = observed(by_hand(), &group);
    one.begin();
    two.begin();
    let (first, second) = (one.settle(), two.settle());
    let (mut first, mut second) = (pin!(first), pin!(second));
    let mut context = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert_eq!(one.info().status, Status::Waiting, "the other is not done");
    assert!(second.as_mut().poll(&mut context).is_pending());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert_eq!(one.info().status, Status::Pending);
    one.finalize().expect("it is pending");
    assert!(matches!(first.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
    assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
}

#[test]
fn a_job_moves_no_more_than_its_speed_allows() {
    let (job, _) = observed(JobOptions { speed: 1000, ..JobOptions::default() }, &Arc::default());
    job.begin();
    job.pass(Duration::ZERO);
    assert!(poll(job.checkpoint(1000)).is_pending());
    job.pass(Duration::from_millis(999));
    assert!(poll(job.checkpoint(0)).is_pending());
    job.pass(Duration::from_secs(1));
    assert!(poll(job.checkpoint(0)).is_ready());
    assert!(poll(job.checkpoint(1 << 40)).is_pending());
    job.set_speed(0).expect("it runs");
    assert!(poll(job.checkpoint(0)).is_ready(), "no limit");
}
