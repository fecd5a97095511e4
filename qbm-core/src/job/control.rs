//! The handle of a job: what others ask of it, and what it asks of itself between its steps.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::group::{Decision, Group};
use super::pace::Pace;
use super::steps::{Action, OnError, Side, Then, is_full};
use super::{Status, Verb};
use crate::copy::Progress;
use crate::sync::{Mutex, MutexGuard};
use crate::{Error, Result};

/// How a job is done.
#[derive(Clone, Copy, Debug)]
pub struct JobOptions {
    /// Bytes a second that it moves at most; 0 is no limit.
    pub speed: u64,
    /// Let what it did count without [`JobControl::finalize`].
    pub auto_finalize: bool,
    /// Forget it when it has ended, without [`JobControl::dismiss`].
    pub auto_dismiss: bool,
    /// What it does about an error of what it reads.
    pub on_source_error: OnError,
    /// What it does about an error of what it writes.
    pub on_target_error: OnError,
}

impl Default for JobOptions {
    /// As fast as can be, with no ceremony at its end, which an error brings.
    fn default() -> Self {
        Self {
            speed: 0,
            auto_finalize: true,
            auto_dismiss: true,
            on_source_error: OnError::Report,
            on_target_error: OnError::Report,
        }
    }
}

/// What the observer of a job is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// It has another state.
    Status(Status),
    /// An error occurred, and something was done about it.
    Trouble {
        /// Where.
        side: Side,
        /// What was done.
        action: Action,
        /// Whether there is no space left.
        full: bool,
    },
}

/// What an error has left of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoStatus {
    /// Nothing was in the way since it was last resumed.
    #[default]
    Ok,
    /// It was stopped by an error.
    Failed,
    /// It was stopped because there is no space left.
    NoSpace,
}

/// How a job that is ready is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the change that it was for, such as a move to the target.
    Complete,
    /// Without: the target is a copy of this instant, and nothing else changes.
    Leave,
}

/// What a job that has waited does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its next step.
    Go,
    /// What does not wait for it to be resumed.
    Urgent,
    /// It ends.
    End(Ending),
}

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// Where it is in its life.
    pub status: Status,
    /// Whether it is to do nothing until it is resumed.
    pub paused: bool,
    /// How far it is.
    pub progress: Progress,
    /// Bytes a second that it moves at most; 0 is no limit.
    pub speed: u64,
    /// What an error has left of it.
    pub io_status: IoStatus,
    /// Why it has failed.
    pub error: Option<String>,
    /// Whether it was cancelled, or failed with another of its group.
    pub cancelled: bool,
}

/// Why a job does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not in this state.
    #[error("Job '{id}' in state '{status}' cannot accept command verb '{verb}'")]
    Status {
        /// The job.
        id: String,
        /// Its state.
        status: Status,
        /// What was asked.
        verb: Verb,
    },
    /// It is paused, and was to be paused.
    #[error("Job is already paused")]
    AlreadyPaused,
    /// It is not paused, and was to be resumed.
    #[error("Can't resume a job that was not paused")]
    NotPaused,
    /// Only force cancels a job that is paused.
    #[error("The block job for device '{0}' is currently paused")]
    Paused(String),
}

/// Tells somebody of a job. It is called in the order of the events, and must not call back.
pub type Observer = Box<dyn Fn(JobEvent, &JobInfo) + Send + Sync>;

/// The handle of a job, for any thread. The job itself is a future that somebody drives, who also
/// says [what time it is](Self::pass).
pub struct JobControl {
    id: String,
    options: JobOptions,
    group: Arc<Group>,
    observer: Observer,
    state: Mutex<State>,
}

struct State {
    status: Status,
    paused: bool,
    ending: Option<Ending>,
    pace: Pace,
    /// How many times it was told the time.
    ticks: u64,
    progress: Progress,
    io_status: IoStatus,
    error: Option<String>,
    cancelled: bool,
}

impl State {
    fn info(&self) -> JobInfo {
        JobInfo {
            status: self.status,
            paused: self.paused,
            progress: self.progress,
            speed: self.pace.speed(),
            io_status: self.io_status,
            error: self.error.clone(),
            cancelled: self.cancelled,
        }
    }
}

impl fmt::Debug for JobControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobControl({} {})", self.id, self.state().status)
    }
}

impl JobControl {
    /// A job `id` that is about to begin, and succeeds with the others of `group`.
    pub fn new(id: &str, options: JobOptions, group: Arc<Group>, observer: Observer) -> Self {
        group.join(!options.auto_finalize);
        let state = State {
            status: Status::Created,
            paused: false,
            ending: None,
            pace: Pace::new(options.speed),
            ticks: 0,
            progress: Progress::default(),
            io_status: IoStatus::Ok,
            error: None,
            cancelled: false,
        };
        observer(JobEvent::Status(Status::Created), &state.info());
        Self { id: id.to_owned(), options, group, observer, state: Mutex::new(state) }
    }

    /// A job on its own that nobody observes.
    pub fn alone(id: &str, options: JobOptions) -> Self {
        Self::new(id, options, Arc::default(), Box::new(|_, _| ()))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it is done.
    pub fn options(&self) -> &JobOptions {
        &self.options
    }

    /// What is known of it.
    pub fn info(&self) -> JobInfo {
        self.state().info()
    }

    /// Holds it up before its next step, until it is resumed.
    ///
    /// # Errors
    ///
    /// [`Refused`], as from all verbs.
    pub fn pause(&self) -> Result<(), Refused> {
        let mut state = self.accepting(Verb::Pause)?;
        if std::mem::replace(&mut state.paused, true) {
            return Err(Refused::AlreadyPaused);
        }
        drop(state);
        self.group.changed().wake_all();
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn resume(&self) -> Result<(), Refused> {
        if !self.state().paused {
            return Err(Refused::NotPaused);
        }
        let mut state = self.accepting(Verb::Resume)?;
        (state.paused, state.io_status) = (false, IoStatus::Ok);
        match state.status {
            Status::Paused => self.go_to(&mut state, Status::Running),
            Status::Standby => self.go_to(&mut state, Status::Ready),
            _ => {}
        }
        drop(state);
        self.group.changed().wake_all();
        Ok(())
    }

    /// Moves at most `speed` bytes a second from now on; 0 is no limit.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn set_speed(&self, speed: u64) -> Result<(), Refused> {
        self.accepting(Verb::SetSpeed)?.pace.set_speed(speed);
        self.group.changed().wake_all();
        Ok(())
    }

    /// Ends it without an effect, and with it the jobs of its group.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn cancel(&self) -> Result<(), Refused> {
        drop(self.accepting(Verb::Cancel)?);
        self.group.abort();
        Ok(())
    }

    /// The same, but a job that is in step ends well: its target stays a copy.
    ///
    /// # Errors
    ///
    /// [`Refused`], also where it is paused.
    pub fn cancel_gently(&self) -> Result<(), Refused> {
        let mut state = self.accepting(Verb::Cancel)?;
        if state.paused {
            return Err(Refused::Paused(self.id.clone()));
        }
        if state.status != Status::Ready {
            drop(state);
            return self.cancel();
        }
        state.ending.get_or_insert(Ending::Leave);
        drop(state);
        self.group.changed().wake_all();
        Ok(())
    }

    /// Ends it with the change that it was for.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn complete(&self) -> Result<(), Refused> {
        self.accepting(Verb::Complete)?.ending.get_or_insert(Ending::Complete);
        self.group.changed().wake_all();
        Ok(())
    }

    /// Lets what it and the jobs of its group did count.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn finalize(&self) -> Result<(), Refused> {
        drop(self.accepting(Verb::Finalize)?);
        self.group.finalize();
        Ok(())
    }

    /// Lets it be forgotten.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn dismiss(&self) -> Result<(), Refused> {
        let mut state = self.accepting(Verb::Dismiss)?;
        self.go_to(&mut state, Status::Null);
        Ok(())
    }

    /// Says what time it is, since any fixed instant. Whoever drives the job does so several times
    /// a second, or it makes no headway where it waits for time to pass.
    pub fn pass(&self, now: Duration) {
        let mut state = self.state();
        state.pace.pass(now);
        state.ticks += 1;
        drop(state);
        self.group.changed().wake_all();
    }

    /// The state, if the job can do `verb` in it.
    fn accepting(&self, verb: Verb) -> Result<MutexGuard<'_, State>, Refused> {
        let state = self.state();
        if state.status.accepts(verb) {
            return Ok(state);
        }
        Err(Refused::Status { id: self.id.clone(), status: state.status, verb })
    }

    fn go_to(&self, state: &mut State, status: Status) {
        assert!(state.status.leads_to(status), "from {} to {status}", state.status);
        state.status = status;
        (self.observer)(JobEvent::Status(status), &state.info());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the job itself does.
impl JobControl {
    /// It begins, unless whoever has started it has said so already.
    pub fn begin(&self) {
        let mut state = self.state();
        if state.status == Status::Created {
            self.go_to(&mut state, Status::Running);
        }
    }

    /// It is as far as `progress`.
    pub fn set_progress(&self, progress: Progress) {
        self.state().progress = progress;
    }

    /// Between two steps, in the last of which `moved` bytes were moved: waits for as long as it is
    /// paused, or too fast.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`].
    pub async fn checkpoint(&self, moved: u64) -> Result<()> {
        self.spend(moved);
        self.checkpoint_or(|| false).await.map(drop)
    }

    /// Notes that `moved` bytes were moved.
    pub(crate) fn spend(&self, moved: u64) {
        self.state().pace.spend(moved);
    }

    /// Waits until it is told the time once more, as a job does that has nothing better to do.
    pub(crate) async fn rest(&self) -> Result<()> {
        let ticks = self.ticks();
        self.group
            .changed()
            .until(|| self.may_go_on(|state| (state.ticks != ticks).then_some(())))
            .await
    }

    /// As [`checkpoint`](Self::checkpoint), but no longer than until `urgent` holds, which does not wait
    /// for a job to be resumed.
    pub(crate) async fn checkpoint_or(&self, urgent: impl Fn() -> bool) -> Result<Next> {
        self.next(|state| state.pace.is_free().then_some(Next::Go), urgent).await
    }

    /// Waits, once it is ready, for what comes next: an ending, or more to copy, which is looked for
    /// whenever it is told the time.
    pub(crate) async fn next_when_ready(
        &self,
        more: impl Fn() -> bool,
        urgent: impl Fn() -> bool,
    ) -> Result<Next> {
        let ticks = self.ticks();
        let next = |state: &State| match state.ending {
            Some(ending) => Some(Next::End(ending)),
            None => (state.ticks != ticks && more()).then_some(Next::Go),
        };
        self.next(next, urgent).await
    }

    async fn next(
        &self,
        next: impl Fn(&State) -> Option<Next>,
        urgent: impl Fn() -> bool,
    ) -> Result<Next> {
        let found = || {
            let next = self.may_go_on(&next);
            next.or_else(|| urgent().then_some(Ok(Next::Urgent)))
        };
        self.group.changed().until(found).await
    }

    fn ticks(&self) -> u64 {
        self.state().ticks
    }

    /// Those who wait for the job wait here.
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// What `next` makes of the state, unless the job is paused or was cancelled.
    fn may_go_on<T>(&self, next: impl FnOnce(&State) -> Option<T>) -> Option<Result<T>> {
        if self.group.decision() == Some(Decision::Abort) {
            return Some(Err(Error::Cancelled));
        }
        let mut state = self.state();
        if !state.paused {
            return next(&state).map(Ok);
        }
        match state.status {
            Status::Running => self.go_to(&mut state, Status::Paused),
            Status::Ready => self.go_to(&mut state, Status::Standby),
            _ => {}
        }
        None
    }

    /// It is in step with what it follows.
    pub fn ready(&self) {
        self.go_to(&mut self.state(), Status::Ready);
    }

    /// Its work is done: waits for the others of its group, and until it is to count.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`], also where another of the group has failed: it takes back what it did.
    pub async fn settle(&self) -> Result<()> {
        {
            let mut state = self.state();
            // Too late: there is no next step to hold up.
            state.paused = false;
            self.go_to(&mut state, Status::Waiting);
        }
        self.group.arrive();
        let decided = || {
            let decision = self.group.decision();
            let mut state = self.state();
            if state.status == Status::Waiting
                && decision != Some(Decision::Abort)
                && self.group.has_arrived()
            {
                self.go_to(&mut state, Status::Pending);
            }
            decision
        };
        match self.group.changed().until(decided).await {
            Decision::Count => Ok(()),
            Decision::Abort => Err(Error::Cancelled),
        }
    }

    /// It has ended, well or not.
    pub fn conclude(&self, result: &Result<()>) {
        let mut state = self.state();
        if let Err(error) = result {
            self.go_to(&mut state, Status::Aborting);
            state.error = Some(error.to_string());
            state.cancelled = matches!(error, Error::Cancelled);
            drop(state);
            self.group.abort();
            state = self.state();
        }
        self.go_to(&mut state, Status::Concluded);
        if self.options.auto_dismiss {
            self.go_to(&mut state, Status::Null);
        }
    }

    /// Does about `error` what it was told to; `None`: the job is to fail with it.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`].
    pub async fn trouble(&self, side: Side, error: &Error) -> Result<Option<Then>> {
        let policy = match side {
            Side::Source => self.options.on_source_error,
            Side::Target => self.options.on_target_error,
        };
        let (action, full) = (policy.action(error), is_full(error));
        {
            let mut state = self.state();
            (self.observer)(JobEvent::Trouble { side, action, full }, &state.info());
            if action == Action::Stop {
                state.paused = true;
                state.io_status = if full { IoStatus::NoSpace } else { IoStatus::Failed };
            }
        }
        match action {
            Action::Report => Ok(None),
            // Not at once: an error that lasts would keep it busy.
            Action::Ignore => self.rest().await.map(|()| Some(Then::Skip)),
            Action::Stop => self.checkpoint(0).await.map(|()| Some(Then::Again)),
        }
    }
}
