//! The descriptor against its specification, docs/format.md.

mod bad_input;
mod example;
mod mangled;
mod meaning;
mod round_trip;
mod samples;
mod too_long;
