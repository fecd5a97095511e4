//! Storage over ordinary files and block devices.
//!
//! [`StdFile`] is the storage, [`StdDirectory`] the names beside a descriptor, and [`StdHost`]
//! the world around them. Their futures are complete when they are first polled: each makes its
//! system calls at once and blocks the thread meanwhile, so who wants several at a time runs them
//! on several threads.
#![forbid(unsafe_code)]

mod directory;
mod durable;
mod file;
mod gate;
mod holder;
mod host;
mod lock;
mod transfer;
mod zeroes;

pub use directory::{StdDirectory, split};
pub use durable::Durable;
pub use file::StdFile;
pub use gate::GatePolicy;
pub use host::StdHost;

/// The example of the README, which is compiled and run as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
