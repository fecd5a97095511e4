//! What the bytes of a connection come and go through.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};

use crate::receiver::Source;

/// A connection's bytes, in both directions at once. Sockets are one: see [`Socket`].
pub trait Wire: Send + Sync {
    /// Receives some bytes, as soon as there are any; 0 means that no more will come.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn receive(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Sends some of the bytes, the first ones, and says how many.
    ///
    /// # Errors
    ///
    /// If the connection is broken, or the peer has read nothing for too long.
    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that nothing more will be sent.
    fn stop_sending(&self);

    /// Receives no more: a pending [`receive`](Self::receive) returns 0. Replies are still sent.
    fn stop_receiving(&self);

    /// Breaks the connection: whoever receives or sends returns.
    fn hang_up(&self);
}

impl Source for dyn Wire + '_ {
    fn receive_some(&self, into: &mut [u8]) -> io::Result<usize> {
        self.receive(into)
    }
}

/// A wire from a client's end, who does not wait for ever. Sockets are one.
pub trait Channel: Wire {
    /// Makes it ready: to send is [`io::ErrorKind::WouldBlock`] if the peer reads nothing for `patience`,
    /// small messages are not held back, and calls block.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn prepare(&self, patience: Duration) -> io::Result<()>;

    /// Lets [`receive`](Wire::receive) be [`io::ErrorKind::WouldBlock`] after `patience`, if there is one.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()>;

    /// What has come that nobody has received, without waiting for it.
    fn peek(&self) -> Peeked;
}

/// What has come of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// Nothing yet.
    Nothing,
    /// Some bytes.
    Bytes,
    /// That no more will come.
    End,
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Of a network.
    Tcp(TcpStream),
    /// Of this machine.
    Unix(UnixStream),
}

impl Socket {
    /// Where the client comes from; empty for a socket of this machine.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(|address| address.to_string()),
            Self::Unix(_) => Ok(String::new()),
        }
        .unwrap_or_default()
    }

    fn shut(&self, how: Shutdown) {
        // Fails only where the peer has shut it already.
        let _shut = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }
}

impl Channel for Socket {
    fn prepare(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                // A machine that is gone says nothing: its connection ends after two hours, or
                // whatever the administrator has set (tcp_keepalive_time).
                sockopt::set_socket_keepalive(stream, true)?;
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(patience))
            }
            Self::Unix(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(patience))
            }
        }
    }

    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(patience),
            Self::Unix(stream) => stream.set_read_timeout(patience),
        }
    }

    fn peek(&self) -> Peeked {
        let fd = match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        };
        match recv(fd, &mut [0][..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => Peeked::Nothing,
            Ok((_, 1..)) => Peeked::Bytes,
            Ok(_) | Err(_) => Peeked::End,
        }
    }
}

impl Wire for Socket {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).read(into),
            Self::Unix(stream) => (&mut &*stream).read(into),
        }
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).write_vectored(parts),
            Self::Unix(stream) => (&mut &*stream).write_vectored(parts),
        }
    }

    fn stop_sending(&self) {
        self.shut(Shutdown::Write);
    }

    fn stop_receiving(&self) {
        self.shut(Shutdown::Read);
    }

    fn hang_up(&self) {
        self.shut(Shutdown::Both);
    }
}

/// Sends all of `parts`.
///
/// # Errors
///
/// Those of [`Wire::send`].
pub(crate) fn send_all(wire: &dyn Wire, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty parts would end the loop as if the peer took nothing.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match wire.send(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut parts, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
