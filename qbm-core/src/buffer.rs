//! The buffer of a transfer: owned, and aligned for direct I/O.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

/// Every buffer starts at a multiple of this many bytes, which suits every known device.
pub const ALIGNMENT: usize = 4096;

/// Bytes on their way to or from a storage.
///
/// An operation takes the buffer by value and gives it back, so that the memory stays valid for
/// as long as the kernel may touch it, also when the operation's future is dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    /// Where the aligned part of `bytes` starts.
    start: usize,
    /// Invariant: within the aligned part.
    window: Range<usize>,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "memory is byte-addressable");
        Self { bytes, start, window: 0..length, length }
    }

    /// A buffer with a copy of `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    /// Shows only `window` of the whole buffer; the rest is kept, and shown again by [`Self::widen`].
    ///
    /// # Panics
    ///
    /// If `window` is not within the buffer.
    #[must_use]
    pub fn narrow(mut self, window: Range<usize>) -> Self {
        assert!(window.start <= window.end && window.end <= self.length, "a window within");
        self.window = window;
        self
    }

    /// What is shown of the whole buffer.
    pub fn window(&self) -> Range<usize> {
        self.window.clone()
    }

    /// Shows the whole buffer again.
    #[must_use]
    pub fn widen(mut self) -> Self {
        self.window = 0..self.length;
        self
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][self.window.clone()]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][self.window.clone()]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_zero() {
        for length in [0, 1, 4095, 4096, 70_000] {
            let buffer = Buffer::zeroed(length);
            assert_eq!(buffer.as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(buffer.len(), length);
            assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_narrowed_buffer_keeps_the_rest() {
        let buffer = Buffer::from_slice(b"abcdef").narrow(2..4);
        assert_eq!((&*buffer, buffer.window()), (b"cd".as_slice(), 2..4));
        assert_eq!(&*buffer.widen(), b"abcdef");
    }
}
