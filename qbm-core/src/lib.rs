//! The core of QBM: persistent dirty bitmaps for any disk image.
//!
//! It holds the format, the bitmaps, the order in which marks and data reach the medium, and
//! recovery. It opens no file or socket, reads no clock, draws no random number and spawns no
//! thread: a [`Storage`], a [`Directory`] and a [`Host`] do that for it.
#![forbid(unsafe_code)]

pub mod backup;
pub mod bits;
pub mod buffer;
mod chain;
pub mod conformance;
pub mod copy;
pub mod descriptor;
pub mod directory;
pub mod disk;
pub mod error;
pub mod graph;
pub mod host;
pub mod image;
pub mod job;
#[cfg(all(test, loom))]
mod models;
pub mod mutants;
pub mod storage;
mod sync;
mod track;
pub mod units;
pub mod zeroes;

pub use buffer::Buffer;
pub use directory::{Access, Directory};
pub use disk::Disk;
pub use error::{Error, Result};
pub use host::{Host, Id, Timestamp};
pub use image::Image;
pub use storage::{BlockStatus, Identity, Limits, Lock, Persist, Storage, Unmap};
pub use units::{ByteRange, Granularity};
