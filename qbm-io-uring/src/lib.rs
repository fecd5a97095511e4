//! Storage over `io_uring` and direct I/O.
//!
//! [`UringFile`] is the storage and [`UringDirectory`] the names beside a descriptor. What is neither
//! read nor written nor synced, such as names, locks and lengths, is left to `qbm-io-std`, which both
//! of them wrap.
//!
//! Whole pages go between the caller's buffer and the medium, past the page cache, by the ring of the
//! thread that asks; whatever does not begin and end on pages goes through the page cache, one at a
//! time. A future that has begun blocks the thread that polls it again until some operation of the
//! ring is done: who wants several at a time on one thread polls several futures, and they are given to
//! the kernel by one call. One alone is done by a plain call. docs/decisions/ has why.
#![deny(unsafe_code)]

mod directory;
mod file;
mod flight;
mod operation;
mod pool;
#[expect(
    unsafe_code,
    reason = "the kernel is given addresses; the module says why they stay valid"
)]
mod ring;
mod slot;

pub use directory::UringDirectory;
pub use file::UringFile;
