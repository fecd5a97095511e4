//! Replies on their way: sent at once, or held back for a moment to be sent together.
//!
//! A client with many requests in flight gets its replies by the dozen, for one call of the system
//! instead of many. A reply is only ever held back while a further request has come already, and
//! everything is sent before a thread waits: for bytes from the client, for its turn, or for the disk
//! as far as that can be foreseen. Where it cannot, the watch of [`Turns`](super::turns::Turns) comes by.

use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::wire::{Wire, send_all};

/// Bytes that are held back at most.
const MOST_HELD: usize = 64 << 10;

/// When a reply is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At once, with all that is held back.
    Now,
    /// With a later one.
    Later,
}

/// The replies held back. Its lock also keeps replies from mixing on the wire.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    held: Mutex<Vec<u8>>,
}

impl Outbox {
    /// Sends a reply of a head and its data, in one piece.
    ///
    /// # Errors
    ///
    /// Those of the wire.
    pub(crate) fn send(
        &self,
        wire: &dyn Wire,
        (head, data): (&[u8], &[u8]),
        when: When,
    ) -> io::Result<()> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Self::send_after(held, wire, (head, data), when)
    }

    /// Sends the first part of a reply that goes on. No other reply is sent until that is dropped.
    ///
    /// # Errors
    ///
    /// Those of the wire.
    pub(crate) fn begin(
        &self,
        wire: &dyn Wire,
        (head, data): (&[u8], &[u8]),
    ) -> io::Result<Sending<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        send_with(&mut held, wire, (head, data))?;
        Ok(Sending { _held: held })
    }

    /// Sends what is held back, unless another thread is at it. That one sends all of it, or adds to
    /// it and sees to it before it waits for its turn.
    ///
    /// # Errors
    ///
    /// Those of the wire.
    pub(crate) fn flush_unless_busy(&self, wire: &dyn Wire) -> io::Result<()> {
        let held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        Self::send_after(held, wire, (&[], &[]), When::Now)
    }

    fn send_after(
        mut held: MutexGuard<'_, Vec<u8>>,
        wire: &dyn Wire,
        (head, data): (&[u8], &[u8]),
        when: When,
    ) -> io::Result<()> {
        if when == When::Later && held.len() + head.len() + data.len() <= MOST_HELD {
            held.extend_from_slice(head);
            held.extend_from_slice(data);
            return Ok(());
        }
        send_with(&mut held, wire, (head, data))
    }

    /// Sends what is held back.
    ///
    /// # Errors
    ///
    /// Those of the wire.
    pub(crate) fn flush(&self, wire: &dyn Wire) -> io::Result<()> {
        self.send(wire, (&[], &[]), When::Now)
    }
}

/// Sends all that is `held` back, and more after it.
fn send_with(held: &mut Vec<u8>, wire: &dyn Wire, (head, data): (&[u8], &[u8])) -> io::Result<()> {
    let parts = &mut [IoSlice::new(held), IoSlice::new(head), IoSlice::new(data)];
    let sent = send_all(wire, parts);
    held.clear();
    sent
}

/// A reply that goes on.
pub(crate) struct Sending<'o> {
    _held: MutexGuard<'o, Vec<u8>>,
}

impl Sending<'_> {
    /// Sends more of it.
    ///
    /// # Errors
    ///
    /// Those of the wire.
    pub(crate) fn go_on(&mut self, wire: &dyn Wire, data: &[u8]) -> io::Result<()> {
        send_all(wire, &mut [IoSlice::new(data)])
    }
}
