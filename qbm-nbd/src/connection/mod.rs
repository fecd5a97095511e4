//! The transmission phase of one connection: several threads that take turns to receive.
//!
//! # Invariants
//!
//! * A thread works on a request only after it has put the receiver down, its payload read: work
//!   that takes long holds up no other request.
//! * A reply is sent whole, in one piece with its data.
//! * A thread that panics ends its connection: nobody goes on out of step.

mod answer;
mod request;
mod room;
mod runs;
mod turns;

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope};

use self::request::Incoming;
use self::room::{Desk, Room};
use self::turns::{Call, Turns};
use crate::disk::Context;
use crate::export::Export;
use crate::handshake::Session;
use crate::limits::MAX_IN_FLIGHT;
use crate::peer::Peer;
use crate::protocol::Style;
use crate::receiver::Receiver;
use crate::reports::Reports;
use crate::statistics::Statistics;
use crate::wire::send_all;

/// Stack of a thread, in bytes. A thread per request in flight is many threads.
pub(crate) const STACK: usize = 256 << 10;

/// A connection in transmission.
pub(crate) struct Connection<'s> {
    export: &'s Export,
    style: Style,
    /// Those that the client has chosen, with their ids.
    contexts: Vec<(u32, Context)>,
    peer: &'s Peer,
    statistics: &'s Statistics,
    reports: &'s Reports,
    turns: Turns,
    /// Held while a reply is sent.
    sending: Mutex<()>,
    room: Room,
    threads: AtomicUsize,
}

impl<'s> Connection<'s> {
    pub(crate) fn new(
        session: Session<'s>,
        peer: &'s Peer,
        (statistics, reports): (&'s Statistics, &'s Reports),
    ) -> Self {
        let Session { export, style, contexts, receiver } = session;
        Self {
            export,
            style,
            contexts,
            peer,
            statistics,
            reports,
            turns: Turns::new(receiver),
            sending: Mutex::new(()),
            room: Room::new(),
            threads: AtomicUsize::new(0),
        }
    }

    /// Serves requests until the client disconnects, and those under way are answered.
    pub(crate) fn serve(&self) {
        std::thread::scope(|scope| {
            // The watch of the turns.
            self.add_thread(scope);
            self.threads.fetch_add(1, Ordering::Relaxed);
            self.work_guarded(scope);
        });
    }

    /// Adds a thread, if there may be more. Without it the others do its work.
    fn add_thread<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        if self.threads.fetch_add(1, Ordering::Relaxed) >= MAX_IN_FLIGHT {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let thread = Builder::new().name("nbd-request".to_owned()).stack_size(STACK);
        if thread.spawn_scoped(scope, || self.work_guarded(scope)).is_err() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn work_guarded<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        // What a panic leaves behind is not looked at again: the connection ends.
        if catch_unwind(AssertUnwindSafe(|| self.work(scope))).is_err() {
            self.statistics.panics.add(1);
            self.break_off();
        }
    }

    /// Receives and answers, in turns with the other threads.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut desk = Desk::new(&self.room);
        while let Some(mut receiver) = self.turns.take() {
            let Ok(Some(incoming)) = self.receive(&mut receiver, &mut desk) else {
                // The client disconnects, or is gone, or cannot be followed any more. What it has
                // asked for is answered all the same.
                return self.turns.end();
            };
            let call = self.whom_to_call(&incoming, &receiver);
            if !self.turns.put(receiver, call) {
                self.add_thread(scope);
            }
            let answered = self.answer(incoming, &mut desk);
            desk.clear();
            if answered.is_err() {
                return self.break_off();
            }
        }
    }

    fn whom_to_call(&self, incoming: &Incoming, receiver: &Receiver) -> Call {
        if receiver.has_more() || incoming.may_wait(self.export) {
            Call::Follower
        } else {
            Call::Nobody
        }
    }

    /// Sends the parts of a reply.
    fn send(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let _alone = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        send_all(&*self.peer.wire, parts)
    }

    /// Ends the connection at once: the client is gone, or out of step.
    fn break_off(&self) {
        self.turns.end();
        self.peer.wire.hang_up();
    }
}
