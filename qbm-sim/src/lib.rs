//! A simulated medium: storage that loses, tears, reorders, fails and crashes as one seed says.
//!
//! # What it does to its users
//!
//! * A write is visible when it is complete, and durable after a sync. At a power loss each unit
//!   of a write that is not durable is there or not, unit by unit, in any file, in any order; a
//!   unit is a byte, a sector or a page. Writes under way count too.
//! * A sync covers what was complete when it began. A failed one may leave what it covered on the
//!   medium or not, and later syncs say nothing of that: the pages count as clean.
//! * Names are durable after a sync of the directory; until then a power loss may undo each of
//!   their changes by itself. A rename is atomic.
//! * `kill -9` keeps everything complete, and any part of what was under way; nothing becomes
//!   durable by it.
//! * An operation whose future is dropped happens at some later time, until the storage settled.
//!
//! # What it does not do
//!
//! A device that acknowledges a sync and lies, bytes outside a write that change, and rot are
//! beyond what a format of plain bits can survive; [`Medium::corrupt`] is there to show that they
//! are found where they can be.
//!
//! No clock, thread or unseeded chance is used: the same seed gives the same history.
#![forbid(unsafe_code)]

mod directory;
mod executor;
mod fault;
mod file;
mod harm;
mod host;
mod medium;
pub mod rig;
mod world;

pub use directory::SimDirectory;
pub use executor::{Executor, Step, run};
pub use fault::{Fault, Injected, Kind};
pub use file::SimFile;
pub use harm::{Harm, Harms};
pub use host::SimHost;
pub use medium::{Grain, Loss, Medium};
pub use world::Disk;
