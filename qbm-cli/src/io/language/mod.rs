//! The command language of qemu-io.
//!
//! [`parse`] turns a line into a [`Command`] or a [`Refusal`]. It is pure: it opens no file and
//! knows no image, and any text gives one of the two. What an argument may be, and what is said
//! about a wrong one, is observed from qemu-io, so that scripts and habits carry over.

mod options;
mod parse;
mod values;
mod verbs;

pub use parse::parse;
pub use verbs::{VERBS, Verb};

/// The most bytes that one request carries: as many as qemu-io's, 512 short of 2 GiB.
pub const MAX_REQUEST: u64 = (1 << 31) - 512;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read from the disk.
    Read(Read),
    /// Write to the disk.
    Write(Write),
    /// Give up the contents of a range.
    Discard(Request),
    /// Make all complete writes durable.
    Flush,
    /// Wait for all requests in the background.
    AioFlush,
    /// Make the disk longer or shorter.
    Truncate {
        /// The new size, in bytes.
        size: u64,
        /// Whether what is added gets its space at once.
        preallocate: bool,
    },
    /// Print the size of the disk.
    Length,
    /// Print which parts of the disk are in the image.
    Map,
    /// Print how much of a range is in the image.
    Alloc {
        /// The first byte.
        offset: u64,
        /// Bytes to look at; past the end of the disk they do not count.
        length: u64,
    },
    /// Print what is open.
    Info,
    /// Wait for so many milliseconds.
    Sleep(u64),
    /// Explain all verbs, or one.
    Help(Option<String>),
    /// Fail a request of this kind before it reaches the image.
    Invalid(&'static str),
    /// Something that only other formats can do; the text names the request.
    Unsupported(&'static str),
    /// End the process at once by SIGABRT, without closing the image.
    Abort,
    /// Send the process this signal.
    Raise(i32),
    /// End the session.
    Quit,
}

/// A range, and how to report on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// What to print at the end.
    pub report: Report,
    /// The request's name where it fails: `read`, `readv`, `write`, ...
    pub name: &'static str,
    /// Whether the next command need not wait for it.
    pub background: bool,
}

/// How a request that succeeded is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Two lines for people.
    Full,
    /// One line for programs.
    Terse,
    /// Nothing.
    Quiet,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where, and how to report.
    pub request: Request,
    /// Whether to print the bytes.
    pub dump: bool,
    /// What to compare them with.
    pub verify: Option<Verify>,
}

/// What the bytes of a read ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// The value of each of them.
    pub pattern: u8,
    /// The first byte to compare, from the start of the read. With `length` within the read.
    pub start: u64,
    /// How many to compare.
    pub length: u64,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where, and how to report.
    pub request: Request,
    /// What to write.
    pub source: Source,
    /// Whether it is durable when it returns.
    pub durable: bool,
}

/// The bytes of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This byte, again and again.
    Pattern(u8),
    /// The contents of this file, again and again.
    File(String),
    /// Zeroes, without sending any; `unmap` lets their space go.
    Zeroes {
        /// Whether the space may be given back.
        unmap: bool,
    },
}

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A text for standard output, where qemu-io prints what is wrong with an argument.
    Argument(String),
    /// A text for standard error, where it prints that there is no such command or file.
    Command(String),
    /// The verb is used wrongly: `complaint` if any for standard error, then its usage.
    Usage {
        /// The verb.
        verb: &'static Verb,
        /// Which option is wrong, if that is it.
        complaint: Option<String>,
    },
}
