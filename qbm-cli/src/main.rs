//! The program `qbm`.
#![forbid(unsafe_code)]

fn main() {}
