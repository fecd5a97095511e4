//! Jobs: long operations on a disk that is in use, which can be watched, held up and ended.
//!
//! A job is a future, and a [`JobControl`] is the handle to it that any thread may use. Nothing here
//! runs by itself: somebody polls the future, and says what time it is.
//!
//! # Invariants
//!
//! * A job goes through its [states](Status) as the one table of them allows.
//! * What a job does counts in one step at its end, after its [`Group`] has decided so; before
//!   that, ending it anywhere leaves everything as it was.

mod commit;
mod control;
mod group;
mod mirror;
mod pace;
mod status;
mod steps;
mod stream;
#[cfg(test)]
mod tests;

pub use commit::commit;
pub use control::{Ending, IoStatus, JobControl, JobEvent, JobInfo, JobOptions, Observer, Refused};
pub use group::Group;
pub use mirror::{CopyMode, MirrorOptions, MirrorSync, mirror};
pub use status::{Status, Verb};
pub use steps::{Action, OnError, Side, Steps, Then};
pub use stream::stream;
