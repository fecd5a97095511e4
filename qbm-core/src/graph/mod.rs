//! Changing what is behind what: clusters of an overlay go down into an image behind it, or what
//! shows through it comes up, and the disk stays the same.
//!
//! # What a crash leaves
//!
//! The disk, always: bytes are copied and durable where they go before the one replace of the top's
//! descriptor that makes them count there. Before it they are in both places.

mod commit;
mod copy_over;
mod pair;
mod rebase;

pub use commit::{CommitOptions, commit};
pub use copy_over::copy_over;
pub(crate) use rebase::pull_differences;
pub use rebase::{Onto, rebase, rebase_unchecked};
