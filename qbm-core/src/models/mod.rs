//! Models: small programs of a few threads over the real types, explored in every interleaving.
//!
//! `cargo xtask loom` runs them, on loom. docs/testing.md, "Interleavings", has a table of what
//! each shows, and which planted bug it must find (`cargo xtask loom --mutants`).

mod bits;
mod disk;
mod dropped;
mod explore;
mod file;
mod gate;
mod marks;
#[cfg(qbm_mutants)]
mod planted;
mod requests;
mod tracking;
