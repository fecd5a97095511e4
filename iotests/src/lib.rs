//! What the end-to-end scenarios share: programs, seeds, kills and power cuts.
//!
//! Everything here is for tests, so whatever goes wrong panics with all that is known about it. A
//! program or a right that is missing is such a failure too: a test that cannot run has not passed.
#![forbid(unsafe_code)]

pub mod bounded;
pub mod campaign;
pub mod certificates;
pub mod differential;
pub mod loop_ext4;
pub mod persistence;
pub mod program;
pub mod qbm;
pub mod refused;
pub mod seed;
pub mod served;
pub mod stalling;
pub mod tree;
pub mod victim;

pub use bounded::{Spent, run_bounded};
pub use certificates::make_certificates;
pub use loop_ext4::LoopExt4;
pub use program::{Finished, run, run_with_input, tool};
pub use qbm::qbm;
pub use refused::refused;
pub use seed::{Seed, rounds, rounds_at_once};
pub use served::{Served, folder_with_image};
pub use victim::{Moment, Remains, Victim};
