//! The transmission phase of one connection: several threads that take turns to receive.
//!
//! # Invariants
//!
//! * A thread works on a request only after it has put the receiver down, its payload read: work
//!   that takes long holds up no other request. Only a write for which there is no memory is worked on
//!   as it comes.
//! * A reply is sent whole, in one piece with its data, and before anybody waits for something else.
//! * A thread that panics ends its connection: nobody goes on out of step.

mod answer;
pub(crate) mod memory;
mod outbox;
mod pace;
mod request;
mod turns;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope};
use std::time::Instant;

use self::memory::{Desk, Memory};
use self::outbox::{Outbox, When};
use self::pace::Pace;
use self::request::Incoming;
use self::turns::{Call, Turns};
use crate::disk::{Context, Disk};
use crate::export::Export;
use crate::handshake::Session;
use crate::limits::{LEAST_PIECE, MAX_IN_FLIGHT};
use crate::peer::Peer;
use crate::protocol::Style;
use crate::receiver::{Receiver, Source};
use crate::reports::Reports;
use crate::statistics::Statistics;
use crate::wire::Wire;

/// Stack of a thread, in bytes. A thread per request in flight is many threads.
pub(crate) const STACK: usize = 256 << 10;

/// A connection in transmission.
pub(crate) struct Connection<'s> {
    export: Arc<Export>,
    style: Style,
    /// Those that the client has chosen, with their ids.
    contexts: Vec<(u32, Context)>,
    peer: &'s Peer,
    wire: Arc<dyn Wire>,
    statistics: &'s Statistics,
    reports: &'s Reports,
    turns: Turns,
    outbox: Outbox,
    pace: Pace,
    memory: &'s Memory,
    threads: AtomicUsize,
}

impl<'s> Connection<'s> {
    pub(crate) fn new(
        session: Session,
        peer: &'s Peer,
        (statistics, reports, memory): (&'s Statistics, &'s Reports, &'s Memory),
    ) -> Self {
        let Session { export, style, contexts, wire, receiver } = session;
        Self {
            export,
            style,
            contexts,
            peer,
            wire,
            statistics,
            reports,
            turns: Turns::new(receiver),
            outbox: Outbox::default(),
            pace: Pace::default(),
            memory,
            threads: AtomicUsize::new(0),
        }
    }

    /// Serves requests until the client disconnects, and those under way are answered.
    pub(crate) fn serve(&self) {
        std::thread::scope(|scope| {
            // The watch of the turns.
            self.spawn(scope, || self.work_guarded(scope));
            self.threads.fetch_add(1, Ordering::Relaxed);
            self.work_guarded(scope);
        });
        // Nobody is left who would tell that the client has not waited for it.
        let _sent = self.outbox.flush(&*self.wire);
        self.wire.stop_sending();
    }

    /// Adds a thread beyond the first two, if there is memory for it. Without it the others do its work.
    fn add_thread<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        if !self.memory.take(LEAST_PIECE) {
            return;
        }
        let work = || {
            self.work_guarded(scope);
            self.memory.put_back(LEAST_PIECE);
        };
        if !self.spawn(scope, work) {
            self.memory.put_back(LEAST_PIECE);
        }
    }

    /// Adds a thread, if there may be more; whether there is one.
    fn spawn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        work: impl FnOnce() + Send + 'scope,
    ) -> bool {
        if self.threads.fetch_add(1, Ordering::Relaxed) >= MAX_IN_FLIGHT {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let thread = Builder::new().name("nbd-request".to_owned()).stack_size(STACK);
        let spawned = thread.spawn_scoped(scope, work).is_ok();
        if !spawned {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
        spawned
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
        let mut desk = Desk::new(self.memory);
        while let Some(mut receiver) = self.next_turn() {
            let Ok(Some(incoming)) = self.receive(&mut receiver, &mut desk) else {
                // The client disconnects, or is gone, or cannot be followed any more. What it has
                // asked for is answered all the same.
                return self.turns.end();
            };
            let (call, when) = self.plan(&incoming, &receiver);
            if !self.turns.put(receiver, call) {
                self.add_thread(scope);
            }
            let answered = match call {
                // This may take long, and what is done need not wait for it.
                Call::Follower => self.outbox.flush(&*self.wire),
                Call::Nobody => Ok(()),
            };
            let answered = answered.and_then(|()| self.answer(incoming, &mut desk, when));
            desk.clear();
            if answered.is_err() {
                return self.break_off();
            }
        }
    }

    /// Waits for a turn to receive; `None` once nothing is received any more.
    fn next_turn(&self) -> Option<Receiver> {
        if let Some(receiver) = self.turns.take_now() {
            return Some(receiver);
        }
        // Somebody else receives, and may have had nothing to send before waiting.
        if self.outbox.flush(&*self.wire).is_err() {
            self.break_off();
        }
        self.turns.take()
    }

    /// Who receives while `incoming` is worked on, and when its reply is to be sent.
    fn plan(&self, incoming: &Incoming, receiver: &Receiver) -> (Call, When) {
        let more = receiver.has_more();
        let parallel = (more || incoming.is_large()) && self.pace.is_slow();
        if parallel || incoming.may_wait(&self.export) {
            (Call::Follower, When::Now)
        } else if more {
            // This thread will be back for it at once.
            (Call::Nobody, When::Later)
        } else {
            (Call::Nobody, When::Now)
        }
    }

    /// Lets the disk do some work that is quick unless it has to wait, and notes which it was.
    fn timed<T>(&self, work: impl FnOnce(&dyn Disk) -> T) -> T {
        let begun = Instant::now();
        let done = work(&*self.export.disk);
        self.pace.note(begun.elapsed());
        done
    }

    /// Sends a reply, `data` after its `head`.
    fn send(&self, head: &[u8], data: &[u8], when: When) -> io::Result<()> {
        self.outbox.send(&*self.wire, (head, data), when)
    }

    /// Ends the connection at once: the client is gone, or out of step.
    fn break_off(&self) {
        self.turns.end();
        self.wire.hang_up();
    }
}

impl Source for Connection<'_> {
    fn receive_some(&self, into: &mut [u8]) -> io::Result<usize> {
        // The client may wait for these before it sends any more. One that reads nothing while it
        // sends is listened to all the same.
        self.outbox.flush_unless_busy(&*self.wire)?;
        self.wire.receive(into)
    }
}
