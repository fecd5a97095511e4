//! Errors on purpose: the nth call of a kind fails.

use std::io;

use crate::harm::{Harm, Harms};

/// What a call to the medium is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reading, or asking for the length, the extents or the identity of a file.
    Read,
    /// Writing, write-zeroes and discard.
    Write,
    /// A write that is durable at its return.
    DurableWrite,
    /// A sync of a file.
    Sync,
    /// Changing a length.
    SetLen,
    /// Opening a file.
    Open,
    /// Creating a file.
    Create,
    /// Renaming a file.
    Rename,
    /// Removing a name.
    Remove,
    /// A sync of the directory.
    SyncDirectory,
}

/// An error to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The calls that are counted; `None` counts all.
    pub kind: Option<Kind>,
    /// How many of them go well before.
    pub after: u64,
    /// How many of them fail then.
    pub count: u64,
    /// The error.
    pub error: io::ErrorKind,
}

/// What has been injected so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Calls that failed on purpose.
    pub errors: u64,
    /// Operations that happened after their future was dropped.
    pub late: u64,
    /// The errors, by what they did.
    pub harms: Harms,
}

impl Injected {
    /// Counts a call of `kind` that is going to fail.
    pub(crate) fn note(&mut self, kind: Kind, error: io::ErrorKind) {
        self.errors += 1;
        match (kind, error == io::ErrorKind::StorageFull) {
            (Kind::Read | Kind::Open, _) => self.harms.note(Harm::ReadError),
            (Kind::Sync | Kind::DurableWrite | Kind::SyncDirectory, true) => {
                self.harms.note(Harm::FullSync);
            }
            (Kind::Write | Kind::SetLen | Kind::Create, true) => self.harms.note(Harm::FullWrite),
            (Kind::Write, false) => self.harms.note(Harm::WriteError),
            // What a failed sync did is seen when the power is cut.
            _ => {}
        }
    }
}

impl Fault {
    /// Whether this call of `kind` fails; counts it.
    pub(crate) fn strikes(&mut self, kind: Kind) -> bool {
        if self.kind.is_some_and(|counted| counted != kind) {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        let strikes = self.count > 0;
        self.count = self.count.saturating_sub(1);
        strikes
    }
}
