//! `print!`, `println!` and `eprintln!` as this crate means them: they never panic.
//!
//! Those of the standard library panic where the output is closed or full, and a panic would
//! leave an image that is open for writing as a crash does. These take their place in the whole
//! crate, so that none is used by mistake. What could not be printed is told by [`failure`], once
//! the command is done.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// The first failure to print.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

macro_rules! print {
    ($($text:tt)*) => { $crate::printing::print(format_args!($($text)*)) };
}

macro_rules! println {
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}

macro_rules! eprintln {
    ($($text:tt)*) => { $crate::printing::complain(format_args!($($text)*)) };
}

/// Prints on standard output.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    note(io::stdout().write_fmt(text));
}

/// Prints a line on standard error.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    // There is nowhere left to tell that this failed.
    let _printed = writeln!(io::stderr(), "{text}");
}

/// Why not all of the output was printed. That nobody wanted to read it all is no failure.
pub(crate) fn failure() -> Option<io::Error> {
    note(io::stdout().flush());
    let first = FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take();
    first.filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

fn note(printed: io::Result<()>) {
    if let Err(error) = printed {
        FAILURE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}
