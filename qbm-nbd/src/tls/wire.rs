//! A wire inside TLS.
//!
//! Both directions need the one session, so a lock guards it; but it is only ever held to compute,
//! and never while a thread waits for the socket. Each direction has a lock of its own for its
//! encrypted bytes. So a client that reads nothing holds up who sends to it, and nobody else.
//!
//! # Invariants
//!
//! * Encrypted bytes are sent in the order in which the session made them: the lock of the direction
//!   is held from one to the other.
//! * Whoever holds the session's lock takes no other.
//! * A receiver never waits to send. It has only alerts to send, of a connection that is lost; the
//!   answer to an update of keys goes out before the next reply, which is when it has to.

use std::io::{self, IoSlice, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{ClientConnection, Connection, ServerConnection};

use super::{ClientTls, Tls};
use crate::wire::{Peeked, Wire, send_all};

/// How often a peer may say something of TLS alone between two requests: it renews keys now and then.
const MAX_ASIDES: usize = 16;

/// Encrypted bytes that are received at a time: a little more than a record has.
const PORTION: usize = 17 << 10;

/// A wire inside TLS, its handshake done.
pub(crate) struct TlsWire {
    inner: Arc<dyn Wire>,
    session: Mutex<Connection>,
    incoming: Mutex<Incoming>,
    /// What could not be sent stays here, and nothing is sent after it.
    outgoing: Mutex<Vec<u8>>,
}

impl TlsWire {
    /// Shakes hands with a client.
    ///
    /// # Errors
    ///
    /// If `inner` is broken, or the client does not speak TLS, or is not one to be served.
    pub(crate) fn accept(inner: Arc<dyn Wire>, tls: &Tls) -> io::Result<Self> {
        let session = ServerConnection::new(Arc::clone(&tls.config)).map_err(io::Error::other)?;
        Self::shake(inner, session.into())
    }

    /// Shakes hands with a server.
    ///
    /// # Errors
    ///
    /// If `inner` is broken, or the server does not speak TLS, or is not who it should be.
    pub(crate) fn connect(inner: Arc<dyn Wire>, tls: &ClientTls) -> io::Result<Self> {
        let session = ClientConnection::new(Arc::clone(&tls.config), tls.server.clone());
        Self::shake(inner, session.map_err(io::Error::other)?.into())
    }

    fn shake(inner: Arc<dyn Wire>, session: Connection) -> io::Result<Self> {
        let wire = Self {
            inner,
            session: Mutex::new(session),
            incoming: Mutex::new(Incoming::default()),
            outgoing: Mutex::default(),
        };
        wire.send_encrypted(lock(&wire.outgoing))?;
        while lock(&wire.session).is_handshaking() {
            if !wire.advance(&mut lock(&wire.incoming))? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            wire.send_encrypted(lock(&wire.outgoing))?;
        }
        Ok(wire)
    }

    /// Whether the peer is there and has said nothing, beside what is TLS's own. `peek` looks at the
    /// inner wire.
    pub(crate) fn is_idle(&self, peek: &dyn Fn() -> Peeked) -> bool {
        let mut incoming = lock(&self.incoming);
        for _ in 0..MAX_ASIDES {
            let said = lock(&self.session).reader().read(&mut [0]);
            if !said.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return false;
            }
            match peek() {
                Peeked::Nothing if incoming.is_empty() => return true,
                Peeked::End => return false,
                _ => {}
            }
            if !self.advance(&mut incoming).is_ok_and(|more| more) {
                return false;
            }
        }
        false
    }

    /// Lets the session see some more bytes of the peer, which are waited for if none are left.
    /// Returns whether there were any.
    fn advance(&self, incoming: &mut Incoming) -> io::Result<bool> {
        if !incoming.refill(&*self.inner)? {
            return Ok(false);
        }
        let shown = incoming.show(&mut lock(&self.session));
        if shown.is_err() {
            // An alert says why. If somebody is sending, the peer does not wait for it.
            if let Ok(outgoing) = self.outgoing.try_lock() {
                let _sent = self.send_encrypted(outgoing);
            }
        }
        shown.map(|()| true)
    }

    /// Sends what the session has for the peer.
    fn send_encrypted(&self, mut outgoing: MutexGuard<'_, Vec<u8>>) -> io::Result<()> {
        if !outgoing.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        {
            let mut session = lock(&self.session);
            while session.wants_write() {
                session.write_tls(&mut *outgoing)?;
            }
        }
        send_all(&*self.inner, &mut [IoSlice::new(&outgoing)])?;
        outgoing.clear();
        Ok(())
    }
}

impl Wire for TlsWire {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut incoming = lock(&self.incoming);
        loop {
            match lock(&self.session).reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if !self.advance(&mut incoming)? {
                return Ok(0);
            }
        }
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let outgoing = lock(&self.outgoing);
        // As much as the session takes at once, some 64 KiB.
        let count = lock(&self.session).writer().write_vectored(parts)?;
        self.send_encrypted(outgoing)?;
        Ok(count)
    }

    fn stop_sending(&self) {
        let outgoing = lock(&self.outgoing);
        lock(&self.session).send_close_notify();
        // The peer may be gone.
        let _sent = self.send_encrypted(outgoing);
        self.inner.stop_sending();
    }

    fn stop_receiving(&self) {
        self.inner.stop_receiving();
    }

    fn hang_up(&self) {
        self.inner.hang_up();
    }
}

/// Encrypted bytes that the session has not seen: `start..end` of the buffer.
struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { bytes: vec![0; PORTION].into(), start: 0, end: 0 }
    }
}

impl Incoming {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Receives some more if all have been seen; whether there are any.
    fn refill(&mut self, wire: &dyn Wire) -> io::Result<bool> {
        if self.is_empty() {
            (self.start, self.end) = (0, wire.receive(&mut self.bytes)?);
        }
        Ok(!self.is_empty())
    }

    /// Shows some to the session.
    fn show(&mut self, session: &mut Connection) -> io::Result<()> {
        let mut rest = &self.bytes[self.start..self.end];
        session.read_tls(&mut rest)?;
        self.start = self.end - rest.len();
        session.process_new_packets().map_err(io::Error::other)?;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
