//! The engine on the simulated host, one subject a file.
//!
//! One program of tests, since each would compile the same engine anew.
#![expect(clippy::unwrap_used, reason = "tests")]

mod chains;
mod content;
mod damage;
mod digests;
mod every_call_fails;
mod graph;
mod jobs;
mod marked_extents;
mod names;
mod overlays;
mod persistence;
mod points;
mod recovery;
mod refusals;
mod rewrite;
mod strangers;
mod together;
