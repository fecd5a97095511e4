//! A channel to a server, and how long is waited for it.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::wire::{Channel, Peeked, Wire};

/// How long a client waits for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a handshake as a whole; 10 s by default.
    pub handshake: Duration,
    /// For the next bytes of a reply; 5 min by default, since a disk may take its time.
    pub reply: Duration,
    /// For the server to take some of what is sent to it; 60 s by default.
    pub send: Duration,
    /// For a server that is gone to come back; 30 s by default.
    pub absence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            reply: Duration::from_secs(300),
            send: Duration::from_secs(60),
            absence: Duration::from_secs(30),
        }
    }
}

/// A connection. A server that is silent for too long is an error.
pub(super) struct Line {
    channel: Box<dyn Channel>,
    begun: Instant,
    shaking: AtomicBool,
    patience: Patience,
}

impl Line {
    /// A line whose handshake begins.
    pub(super) fn new(channel: Box<dyn Channel>, patience: Patience) -> io::Result<Self> {
        channel.prepare(patience.send)?;
        Ok(Self { channel, begun: Instant::now(), shaking: AtomicBool::new(true), patience })
    }

    /// The handshake is over.
    pub(super) fn begin_transmission(&self) -> io::Result<()> {
        self.shaking.store(false, Ordering::Relaxed);
        self.channel.set_patience(Some(self.patience.reply))
    }

    /// What has come that nobody waits for.
    pub(super) fn peek(&self) -> Peeked {
        self.channel.peek()
    }

    /// Lets the next bytes of a handshake take what is left of its time.
    fn limit_handshake(&self) -> io::Result<()> {
        let left = self.patience.handshake.saturating_sub(self.begun.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.channel.set_patience(Some(left))
    }

    fn receive_in_time(&self, into: &mut [u8]) -> io::Result<usize> {
        if self.shaking.load(Ordering::Relaxed) {
            self.limit_handshake()?;
        }
        self.channel.receive(into)
    }
}

impl Wire for Line {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        self.receive_in_time(into).map_err(|error| {
            if self.shaking.load(Ordering::Relaxed) {
                in_time(error, "the handshake is not over after", self.patience.handshake)
            } else {
                in_time(error, "the server has not answered for", self.patience.reply)
            }
        })
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.channel.send(parts);
        sent.map_err(|error| in_time(error, "the server has read nothing for", self.patience.send))
    }

    fn stop_sending(&self) {
        self.channel.stop_sending();
    }

    fn stop_receiving(&self) {
        self.channel.stop_receiving();
    }

    fn hang_up(&self) {
        self.channel.hang_up();
    }
}

/// `error`, in words if it is that `patience` is over.
fn in_time(error: io::Error, what: &str, patience: Duration) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} {} s", patience.as_secs_f32()))
}
