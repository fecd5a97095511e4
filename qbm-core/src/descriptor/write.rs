//! From a [`Descriptor`](super::Descriptor) to text.

use super::{Descriptor, DescriptorError};

impl Descriptor {
    /// The text of this descriptor. Members that it did not know, and the order of all, are kept.
    ///
    /// # Errors
    ///
    /// The first rule of docs/format.md that this would break, with its place in the text: too
    /// many bitmaps or segments, a name that cannot be, a text that is too long. So nothing is
    /// ever written that the next open would refuse.
    pub fn to_text(&self) -> Result<Vec<u8>, DescriptorError> {
        unimplemented!("{}", self.original.len())
    }
}
