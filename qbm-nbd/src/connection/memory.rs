//! Memory for requests, of all connections together.
//!
//! Nobody waits for memory: whoever has it may be a client that stalls for ever. A request is worked on
//! piece by piece instead, each as long as the buffer of its thread. That is up to [`MAX_PIECE`] bytes while
//! the server has memory, and else [`LEAST_PIECE`], which two threads of each connection have for themselves.
//! So a server without memory is slower, and still serves everybody.

use std::sync::atomic::{AtomicUsize, Ordering};

use qbm_core::Buffer;

use crate::limits::{LEAST_PIECE, MAX_MEMORY, MAX_PIECE};

/// How many bytes may still be taken, beside what each connection has for itself.
#[derive(Debug)]
pub(crate) struct Memory {
    left: AtomicUsize,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { left: AtomicUsize::new(MAX_MEMORY) }
    }

    /// Takes `length` bytes; whether there are that many.
    pub(crate) fn take(&self, length: usize) -> bool {
        let rest = |left: usize| left.checked_sub(length);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok()
    }

    pub(crate) fn put_back(&self, length: usize) {
        self.left.fetch_add(length, Ordering::Relaxed);
    }

    /// Whether nothing should be kept that is not in use.
    fn is_scarce(&self) -> bool {
        self.left.load(Ordering::Relaxed) < MAX_MEMORY / 2
    }
}

/// The buffer of a thread, for one piece after the other.
#[derive(Debug)]
pub(crate) struct Desk<'m> {
    memory: &'m Memory,
    /// Kept for the next piece, so that none but the first allocates.
    kept: Option<Buffer>,
    /// Bytes of the buffer, whether it is here or in use. What it has beyond [`LEAST_PIECE`] is taken
    /// from the memory.
    length: usize,
}

/// What a buffer of `length` bytes takes from the memory.
fn beyond(length: usize) -> usize {
    length.saturating_sub(LEAST_PIECE)
}

impl<'m> Desk<'m> {
    pub(crate) fn new(memory: &'m Memory) -> Self {
        Self { memory, kept: None, length: 0 }
    }

    /// A buffer, of any contents, for the first of `length` bytes: for all of them if they are at most
    /// [`LEAST_PIECE`]. To be [given back](Self::give_back), unless it is lost.
    pub(crate) fn piece(&mut self, length: usize) -> Buffer {
        self.clear();
        let wanted = length.min(MAX_PIECE);
        if self.length < wanted {
            self.grow(wanted.next_power_of_two().max(LEAST_PIECE));
        }
        let buffer = self.kept.take().unwrap_or_else(|| Buffer::zeroed(self.length));
        buffer.narrow(0..wanted.min(self.length))
    }

    /// Makes room for a buffer of `length` bytes, or of what there is memory for.
    fn grow(&mut self, length: usize) {
        if self.memory.take(beyond(length) - beyond(self.length)) {
            self.kept = None;
            self.length = length;
        } else if self.length == 0 {
            self.length = LEAST_PIECE;
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        self.kept = Some(buffer.widen());
        if self.length > LEAST_PIECE && self.memory.is_scarce() {
            self.kept = None;
            self.clear();
        }
    }

    /// A buffer that has not been given back is lost.
    pub(crate) fn clear(&mut self) {
        if self.kept.is_none() {
            self.memory.put_back(beyond(self.length));
            self.length = 0;
        }
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        self.kept = None;
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(memory: &Memory) -> usize {
        memory.left.load(Ordering::Relaxed)
    }

    /// A thousand threads that all want as much as they can get, and keep it.
    #[test]
    fn a_thousand_requests_take_no_more_than_there_is_and_all_go_on() {
        let memory = Memory::new();
        let mut desks: Vec<_> = (0..1000).map(|_| Desk::new(&memory)).collect();
        let mut pieces: Vec<_> = desks.iter_mut().map(|desk| desk.piece(32 << 20)).collect();
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(total <= MAX_MEMORY + 1000 * LEAST_PIECE, "{total} bytes");
        assert_eq!(pieces.first().map(|piece| piece.len()), Some(MAX_PIECE));
        assert_eq!(pieces.last().map(|piece| piece.len()), Some(LEAST_PIECE));
        for (desk, piece) in desks.iter_mut().zip(pieces.drain(..)) {
            desk.give_back(piece);
        }
        assert!(left(&memory) >= MAX_MEMORY / 2, "what is not in use is for others");
        drop(desks);
        assert_eq!(left(&memory), MAX_MEMORY);
    }

    /// A buffer that was lost in a failed request takes no memory, and neither does a dropped desk.
    #[test]
    fn memory_is_put_back_whatever_becomes_of_the_buffer() {
        let memory = Memory::new();
        let mut desk = Desk::new(&memory);
        drop(desk.piece(MAX_PIECE));
        assert_eq!(left(&memory), MAX_MEMORY - beyond(MAX_PIECE));
        desk.clear();
        assert_eq!(left(&memory), MAX_MEMORY);
        drop(desk.piece(MAX_PIECE));
        assert_eq!(desk.piece(1).len(), 1);
        drop(desk);
        assert_eq!(left(&memory), MAX_MEMORY);
    }

    #[test]
    fn a_desk_keeps_its_buffer() {
        let memory = Memory::new();
        let mut desk = Desk::new(&memory);
        let buffer = desk.piece(70_000);
        let place = buffer.as_ptr();
        desk.give_back(buffer);
        let buffer = desk.piece(100);
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 100));
    }
}
