//! Which files a descriptor may name, and how they are opened.
//!
//! A descriptor may come from anybody: an upload, a restored backup. Its names therefore open
//! only what lies beneath its own directory, unless the operator allows more. Other formats that
//! keep file names have given away the files of the host more than once.
//!
//! # Invariants
//!
//! * The text of a name is checked first ([`name`]), but the kernel alone resolves it, in one
//!   call and beneath a directory that is open already ([`open`]): nothing is looked up twice, so
//!   that a name that changes meanwhile cannot lead elsewhere.
//! * A name from a descriptor never leads through a symbolic link; a name from the operator may.
//! * Opening never blocks, and nothing is used that is not a regular file, or where the operator
//!   named it a block device.
//!
//! # What is not refused
//!
//! Another file system mounted beneath the directory: only root can put it there. A file system
//! that answers slowly, such as one over a network: its files are opened like any.

pub(crate) mod name;
pub(crate) mod open;
mod policy;

pub use policy::GatePolicy;

use std::fmt;
use std::io;

/// The error of everything that the gate does not let through.
pub(crate) fn refused(why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_string())
}
