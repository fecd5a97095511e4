//! From a [`Descriptor`](super::Descriptor) to text.

use super::Descriptor;

impl Descriptor {
    /// The text of this descriptor. Members that it did not know, and the order of all, are kept.
    pub fn to_text(&self) -> Vec<u8> {
        unimplemented!("{}", self.original.len())
    }
}
