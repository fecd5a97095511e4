//! What the fuzz targets check of any bytes at all; a body panics where they do not hold.
//!
//! The bodies are a library, so that plain `cargo test` replays the saved inputs, without the
//! fuzzing engine and its compiler options.
#![forbid(unsafe_code)]

mod bits;
mod descriptor;
mod directory;
mod gate;
mod input;
mod language;
mod nbd;
mod operations;
mod points;
mod qmp;
mod recovery;
mod seal;
mod segment;

pub use bits::bits;
pub use descriptor::descriptor;
pub use gate::gate;
pub use language::language;
pub use nbd::{client, handshake, transmission};
pub use operations::operations;
pub use points::points;
pub use qmp::qmp;
pub use recovery::recovery;
pub use seal::seal;
pub use segment::segment;

/// Checks something of the bytes.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `fuzz/corpus`.
pub const TARGETS: &[(&str, Body)] = &[
    ("bits", bits),
    ("descriptor", descriptor),
    ("gate", gate),
    ("language", language),
    ("nbd_client", client),
    ("nbd_handshake", handshake),
    ("nbd_transmission", transmission),
    ("operations", operations),
    ("points", points),
    ("qmp", qmp),
    ("recovery", recovery),
    ("seal", seal),
    ("segment", segment),
];
