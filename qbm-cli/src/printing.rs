//! `print!`, `println!` and `eprintln!` as this crate means them: they never panic.
//!
//! Those of the standard library panic where the output is closed or full, and a panic would
//! leave an image that is open for writing as a crash does. These take their place in the whole
//! crate, so that none is used by mistake. What could not be printed is told by [`failure`], once
//! the command is done.
//!
//! They print no control characters but newlines and tabs: the name of a file or bitmap must not
//! command a terminal. Others are escaped as JSON does it, `\u001b`, so that JSON says the same.

use std::fmt::{self, Write as _};
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
    note(io::stdout().write_all(plain(text).as_bytes()));
}

/// Prints a line on standard output, at once, over which the next one is printed.
pub(crate) fn print_over(line: &str) {
    let text = format!("{}\r", plain(format_args!("{line}")));
    let mut output = io::stdout();
    note(output.write_all(text.as_bytes()).and_then(|()| output.flush()));
}

/// Prints a line on standard error.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    // There is nowhere left to tell that this failed.
    let _printed = io::stderr().write_all(plain(format_args!("{text}\n")).as_bytes());
}

/// `text` without what a terminal would take as a command.
fn plain(text: fmt::Arguments<'_>) -> String {
    let mut plain = String::new();
    for character in text.to_string().chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            write!(plain, "\\u{:04x}", u32::from(character)).expect("a string takes all");
        } else {
            plain.push(character);
        }
    }
    plain
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, printed) in [
            ("\u{1b}[2J\u{7}", r"\u001b[2J\u0007"),
            ("\u{9b}1m \u{7f} \r", r"\u009b1m \u007f \u000d"),
            ("two\nlines\t\u{e9}", "two\nlines\t\u{e9}"),
        ] {
            assert_eq!(plain(format_args!("{text}")), printed);
        }
    }
}
