//! What the fuzz targets check of any bytes at all; a body panics where they do not hold.
//!
//! The bodies are a library, so that plain `cargo test` replays the saved inputs, without the
//! fuzzing engine and its compiler options.
#![forbid(unsafe_code)]

mod bits;
mod descriptor;
mod input;

pub use bits::bits;
pub use descriptor::descriptor;

/// Checks something of the bytes.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `fuzz/corpus`.
pub const TARGETS: &[(&str, Body)] = &[("bits", bits), ("descriptor", descriptor)];
