//! Models: small programs of a few threads over the real types, explored in every interleaving.
//!
//! `cargo xtask loom` runs them, on loom. docs/testing.md, "Interleavings", has a table of what
//! each shows, and which planted bug it must find (`cargo xtask loom --mutants`).

mod bits;
mod close;
mod disk;
mod dropped;
mod explore;
mod failure;
mod file;
mod flush;
mod gate;
mod hold;
mod marks;
mod operations;
mod overlays;
#[cfg(qbm_mutants)]
mod planted;
mod requests;
mod shield;
mod tracking;
mod watch;
