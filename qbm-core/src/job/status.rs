//! The state machine of a job: what state leads to which, and what may be asked of it in each.

use std::fmt;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has done nothing yet.
    Created,
    /// It is at work.
    Running,
    /// It was at work and is held up.
    Paused,
    /// It is in step with what it follows, and goes on until it is told how to end.
    Ready,
    /// It was in step and is held up.
    Standby,
    /// It has done its work, and waits for the others of its [`Group`](super::Group).
    Waiting,
    /// So have they all; what they did is about to count.
    Pending,
    /// It has failed or was cancelled, and takes back what it did.
    Aborting,
    /// It has ended, and its result can be asked for.
    Concluded,
    /// It is gone.
    Null,
}

/// What can be asked of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// End without an effect.
    Cancel,
    /// Do nothing until resumed.
    Pause,
    /// Go on.
    Resume,
    /// Move no more than so many bytes a second.
    SetSpeed,
    /// End, now that it is in step.
    Complete,
    /// Let what was done count.
    Finalize,
    /// Be forgotten.
    Dismiss,
}

impl Status {
    /// Whether a job in this state can do `verb`.
    pub fn accepts(self, verb: Verb) -> bool {
        use Status::{Concluded, Created, Paused, Pending, Ready, Running, Standby, Waiting};
        let at_work = matches!(self, Created | Running | Paused | Ready | Standby);
        match verb {
            Verb::Cancel => at_work || matches!(self, Waiting | Pending),
            Verb::Pause | Verb::Resume | Verb::SetSpeed => at_work,
            Verb::Complete => matches!(self, Ready | Standby),
            Verb::Finalize => self == Pending,
            Verb::Dismiss => self == Concluded,
        }
    }

    /// Whether a job may go from this state to `next`.
    pub fn leads_to(self, next: Self) -> bool {
        use Status::{
            Aborting, Concluded, Created, Null, Paused, Pending, Ready, Running, Standby, Waiting,
        };
        match self {
            Created => matches!(next, Running | Aborting),
            Running => matches!(next, Paused | Ready | Waiting | Aborting),
            Paused => matches!(next, Running | Aborting),
            Ready => matches!(next, Standby | Waiting | Aborting),
            Standby => matches!(next, Ready | Aborting),
            Waiting => matches!(next, Pending | Aborting),
            Pending => matches!(next, Aborting | Concluded),
            Aborting => next == Concluded,
            Concluded => next == Null,
            Null => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ready => "ready",
            Self::Standby => "standby",
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Aborting => "aborting",
            Self::Concluded => "concluded",
            Self::Null => "null",
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::SetSpeed => "set-speed",
            Self::Complete => "complete",
            Self::Finalize => "finalize",
            Self::Dismiss => "dismiss",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Status, Verb};

    const STATES: [Status; 10] = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Ready,
        Status::Standby,
        Status::Waiting,
        Status::Pending,
        Status::Aborting,
        Status::Concluded,
        Status::Null,
    ];

    /// As `qemu-storage-daemon` 10 answers: a row for each verb, a column for each state.
    #[test]
    fn each_state_accepts_the_verbs_that_qemu_accepts_in_it() {
        #[rustfmt::skip]
        let table = [
            // created, running, paused, ready, standby, waiting, pending, aborting, concluded, null
            (Verb::Cancel,   "yes yes yes yes yes yes yes no  no  no"),
            (Verb::Pause,    "yes yes yes yes yes no  no  no  no  no"),
            (Verb::Resume,   "yes yes yes yes yes no  no  no  no  no"),
            (Verb::SetSpeed, "yes yes yes yes yes no  no  no  no  no"),
            (Verb::Complete, "no  no  no  yes yes no  no  no  no  no"),
            (Verb::Finalize, "no  no  no  no  no  no  yes no  no  no"),
            (Verb::Dismiss,  "no  no  no  no  no  no  no  no  yes no"),
        ];
        for (verb, row) in table {
            let answers: Vec<&str> = row.split_whitespace().collect();
            assert_eq!(answers.len(), STATES.len());
            for (state, answer) in STATES.into_iter().zip(answers) {
                assert_eq!(state.accepts(verb), answer == "yes", "{verb} in {state}");
            }
        }
    }

    #[test]
    fn every_state_leads_to_null_and_null_to_none() {
        for mut state in STATES {
            let mut seen = vec![state];
            while let Some(next) =
                STATES.into_iter().rev().find(|next| state.leads_to(*next) && !seen.contains(next))
            {
                seen.push(next);
                state = next;
            }
            assert_eq!(state, Status::Null, "by {seen:?}");
        }
        assert!(STATES.into_iter().all(|next| !Status::Null.leads_to(next)));
    }

    #[test]
    fn a_job_counts_only_after_the_others_of_its_group_have_waited() {
        for state in STATES {
            let counts = state.leads_to(Status::Concluded);
            assert_eq!(counts, matches!(state, Status::Pending | Status::Aborting), "{state}");
            let pending = state.leads_to(Status::Pending);
            assert_eq!(pending, state == Status::Waiting, "{state}");
        }
    }
}
