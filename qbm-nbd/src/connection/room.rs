//! Memory for requests that are longer than what a thread keeps for itself.

use std::sync::{Condvar, Mutex, PoisonError};

use qbm_core::Buffer;

use crate::limits::{MAX_KEPT, MAX_LARGE, MAX_REQUEST};

/// How many bytes the large requests of a connection may still take.
#[derive(Debug)]
pub(crate) struct Room {
    left: Mutex<usize>,
    returned: Condvar,
}

const _: () = assert!(MAX_REQUEST <= MAX_LARGE, "every request finds room at last");

impl Room {
    pub(crate) fn new() -> Self {
        Self { left: Mutex::new(MAX_LARGE), returned: Condvar::new() }
    }

    fn put_back(&self, length: usize) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) += length;
        self.returned.notify_all();
    }

    /// Waits until there is room for `length` bytes, and takes it.
    fn take(&self, length: usize) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |left: &mut usize| *left < length;
        let mut left = self.returned.wait_while(left, full).unwrap_or_else(PoisonError::into_inner);
        *left -= length;
    }
}

/// The buffer of a thread, for one request after the other.
#[derive(Debug)]
pub(crate) struct Desk<'c> {
    room: &'c Room,
    /// Kept for the next request, so that none but the first allocates. At most [`MAX_KEPT`] bytes.
    kept: Option<Buffer>,
    kept_length: usize,
    /// What this thread holds of the room.
    taken: usize,
}

/// The least that is allocated, so that a few short requests do not allocate again and again.
const LEAST: usize = 64 << 10;

impl<'c> Desk<'c> {
    pub(crate) fn new(room: &'c Room) -> Self {
        Self { room, kept: None, kept_length: 0, taken: 0 }
    }

    /// A buffer of `length` bytes, of any contents. Waits for room if it is a large one. To be
    /// [given back](Self::give_back), unless it is lost.
    pub(crate) fn buffer(&mut self, length: usize) -> Buffer {
        self.clear();
        if length > MAX_KEPT {
            self.room.take(length);
            self.taken = length;
            return Buffer::zeroed(length);
        }
        let buffer = match self.kept.take().filter(|_| self.kept_length >= length) {
            Some(buffer) => buffer,
            None => {
                self.kept_length = length.next_power_of_two().max(LEAST);
                Buffer::zeroed(self.kept_length)
            }
        };
        buffer.narrow(0..length)
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        if self.taken == 0 {
            self.kept = Some(buffer.widen());
        } else {
            drop(buffer);
            self.clear();
        }
    }

    /// The request is over: what it took of the room is there for others.
    pub(crate) fn clear(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if taken > 0 {
            self.room.put_back(taken);
        }
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn large_requests_wait_for_each_other_and_short_ones_do_not() {
        let room = Room::new();
        let mut first = Desk::new(&room);
        let buffer = first.buffer(MAX_LARGE - MAX_KEPT);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let mut second = Desk::new(&room);
                let buffer = second.buffer(MAX_KEPT + 1);
                assert!(done.load(Ordering::SeqCst), "there was no room for both");
                second.give_back(buffer);
            });
            let mut third = Desk::new(&room);
            let short = third.buffer(MAX_KEPT);
            assert_eq!(short.len(), MAX_KEPT);
            done.store(true, Ordering::SeqCst);
            first.give_back(buffer);
            waits.join().expect("it got its room");
        });
        assert_eq!(*room.left.lock().expect("nobody panicked"), MAX_LARGE);
    }

    /// A buffer that was lost in a failed request takes no room, and neither does a dropped desk.
    #[test]
    fn room_is_put_back_whatever_becomes_of_the_buffer() {
        let room = Room::new();
        let left = || *room.left.lock().expect("nobody panicked");
        let mut desk = Desk::new(&room);
        drop(desk.buffer(MAX_LARGE));
        assert_eq!(left(), 0);
        desk.clear();
        assert_eq!(left(), MAX_LARGE);
        drop(desk.buffer(MAX_LARGE));
        drop(desk);
        assert_eq!(left(), MAX_LARGE);
    }

    #[test]
    fn a_desk_keeps_its_buffer() {
        let room = Room::new();
        let mut desk = Desk::new(&room);
        let buffer = desk.buffer(70_000);
        let place = buffer.as_ptr();
        desk.give_back(buffer);
        let buffer = desk.buffer(100);
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 100));
    }
}
