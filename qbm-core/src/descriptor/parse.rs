//! From text to a valid [`Descriptor`](super::Descriptor).

use std::fmt;

use super::Descriptor;

/// Where in the text something is: line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
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

impl Descriptor {
    /// Reads a descriptor.
    ///
    /// # Errors
    ///
    /// The first rule of docs/format.md that `text` breaks.
    pub fn parse(text: &[u8]) -> Result<Self, DescriptorError> {
        unimplemented!("{}", text.len())
    }
}
