//! What a long operation asks of whoever wants it, between its steps.

use std::future::{Future, ready};
use std::io::ErrorKind;

use super::JobControl;
use crate::copy::Progress;
use crate::{ByteRange, Error, Result};

/// Which side of a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is read.
    Source,
    /// What is written.
    Target,
}

/// How to go on after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Try it again.
    Again,
    /// Leave it out.
    Skip,
}

/// Who is asked between the steps of a long operation: it may hold the operation up, or end it.
///
/// A closure that takes a [`Progress`] is one: it is told, and every error ends the operation.
pub trait Steps {
    /// The operation has come to `at`; `moved` bytes were read or written in the last step.
    ///
    /// # Errors
    ///
    /// Whatever the operation is to end with.
    fn step(&mut self, at: Progress, moved: u64) -> impl Future<Output = Result<()>>;

    /// `side` failed with `error` at `range`.
    ///
    /// # Errors
    ///
    /// Whatever the operation is to end with, mostly `error`.
    fn trouble(
        &mut self,
        side: Side,
        error: Error,
        range: ByteRange,
    ) -> impl Future<Output = Result<Then>>;

    /// All is done but the one step after which it counts.
    ///
    /// # Errors
    ///
    /// Whatever the operation is to end with, instead of that step.
    fn settle(&mut self) -> impl Future<Output = Result<()>>;
}

impl<F: FnMut(Progress) + ?Sized> Steps for F {
    fn step(&mut self, at: Progress, _moved: u64) -> impl Future<Output = Result<()>> {
        self(at);
        ready(Ok(()))
    }

    fn trouble(
        &mut self,
        _side: Side,
        error: Error,
        _range: ByteRange,
    ) -> impl Future<Output = Result<Then>> {
        ready(Err(error))
    }

    fn settle(&mut self) -> impl Future<Output = Result<()>> {
        ready(Ok(()))
    }
}

/// A job whose steps are those of the one operation that it is.
impl Steps for &JobControl {
    async fn step(&mut self, at: Progress, moved: u64) -> Result<()> {
        self.set_progress(at);
        self.checkpoint(moved).await
    }

    async fn trouble(&mut self, side: Side, error: Error, _range: ByteRange) -> Result<Then> {
        JobControl::trouble(self, side, &error).await?.ok_or(error)
    }

    async fn settle(&mut self) -> Result<()> {
        JobControl::settle(self).await
    }
}

/// A job that counts only as a whole: with anything left out, it fails at its end.
pub(super) struct Whole<'a> {
    control: &'a JobControl,
    /// The first error that was ignored.
    ignored: Option<Error>,
}

impl<'a> Whole<'a> {
    /// The steps of the job `control`.
    pub(super) fn of(control: &'a JobControl) -> Self {
        Self { control, ignored: None }
    }
}

impl Steps for Whole<'_> {
    async fn step(&mut self, at: Progress, moved: u64) -> Result<()> {
        self.control.set_progress(at);
        self.control.checkpoint(moved).await
    }

    async fn trouble(&mut self, side: Side, error: Error, _range: ByteRange) -> Result<Then> {
        match self.control.trouble(side, &error).await? {
            Some(Then::Skip) => {
                self.ignored.get_or_insert(error);
                Ok(Then::Skip)
            }
            then => then.ok_or(error),
        }
    }

    async fn settle(&mut self) -> Result<()> {
        match self.ignored.take() {
            // What was left out is still needed where it is.
            Some(error) => Err(error),
            None => self.control.settle().await,
        }
    }
}

/// What a job does about an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It fails.
    #[default]
    Report,
    /// It goes on without the bytes concerned.
    Ignore,
    /// It pauses, and tries again when it is resumed.
    Stop,
    /// It pauses where there is no space left, and fails otherwise.
    Enospc,
}

/// What was done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The job fails.
    Report,
    /// It goes on without.
    Ignore,
    /// It is paused.
    Stop,
}

impl OnError {
    /// What is done about `error`.
    pub fn action(self, error: &Error) -> Action {
        match self {
            Self::Report => Action::Report,
            Self::Ignore => Action::Ignore,
            Self::Enospc if !is_full(error) => Action::Report,
            Self::Stop | Self::Enospc => Action::Stop,
        }
    }
}

/// Whether `error` says that there is no space left.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { error, .. } if error.kind() == ErrorKind::StorageFull)
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::{Action, OnError};
    use crate::Error;

    #[test]
    fn only_a_full_storage_stops_a_job_that_stops_when_it_is_full() {
        let full = Error::io("f", "write")(io::Error::from(ErrorKind::StorageFull));
        let other = Error::io("f", "write")(io::Error::from(ErrorKind::Other));
        let actions = |policy: OnError| (policy.action(&full), policy.action(&other));
        assert_eq!(actions(OnError::Enospc), (Action::Stop, Action::Report));
        assert_eq!(actions(OnError::Stop), (Action::Stop, Action::Stop));
        assert_eq!(actions(OnError::Ignore), (Action::Ignore, Action::Ignore));
        assert_eq!(actions(OnError::Report), (Action::Report, Action::Report));
    }
}
