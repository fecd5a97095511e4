//! What is wrong with a descriptor, and where.

use std::fmt;

/// Where in the text something is: line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The start of the text.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The place that follows `before`.
    pub(super) fn after(before: &str) -> Self {
        let (lines, last_line) = match before.rsplit_once('\n') {
            Some((lines, last_line)) => (lines.matches('\n').count() + 1, last_line),
            None => (0, before),
        };
        Self { line: lines + 1, column: last_line.chars().count() + 1 }
    }
}

/// What is wrong with a descriptor, and where. Displays as `LINE:COLUMN: MEMBER: WHAT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorError {
    /// Where.
    pub position: Position,
    /// The member concerned, such as `QBM.bitmaps.nightly.file`; empty for the whole text.
    pub member: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "{line}:{column}: ")?;
        if !self.member.is_empty() {
            write!(f, "{}: ", self.member)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for DescriptorError {}

/// A rule that the text breaks; becomes a [`DescriptorError`] once its place is counted out.
#[derive(Debug)]
pub(super) struct Fault {
    /// Byte of the text where it is.
    at: usize,
    /// The path of the member concerned, as far as the fault has been carried outwards.
    member: String,
    what: String,
}

impl Fault {
    /// A fault at byte `at` of the text.
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, member: String::new(), what: what.into() }
    }

    /// The same fault, seen from the object that has the member `name`.
    pub(super) fn within(self, name: &str) -> Self {
        self.behind(shown_member(name))
    }

    /// The same fault, seen from the array that has it in the element `index`.
    pub(super) fn within_element(self, index: usize) -> Self {
        self.behind(format!("[{index}]"))
    }

    fn behind(self, mut path: String) -> Self {
        if !self.member.is_empty() && !self.member.starts_with('[') {
            path.push('.');
        }
        Self { member: path + &self.member, ..self }
    }

    /// The fault with its line and column in `text`.
    pub(super) fn locate(self, text: &str) -> DescriptorError {
        let Self { at, member, what } = self;
        DescriptorError { position: Position::after(&text[..at]), member, what }
    }
}

/// The most characters of the text that a message repeats at one place.
const SHOWN: usize = 64;

/// `text` for a message: in quotes, on one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// `name` as a part of a path: in quotes only where it would not read well without.
fn shown_member(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if (1..=SHOWN).contains(&name.len()) && name.chars().all(plain) {
        name.to_owned()
    } else {
        shown(name)
    }
}
