//! Where clients come from, and how the server is told to stop.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::wire::Socket;

/// A socket that clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// Of a network.
    Tcp(TcpListener),
    /// Of this machine.
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    pub(crate) fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Tells a server to stop, from any thread. So does dropping it.
#[derive(Debug)]
pub struct Stopper(#[expect(dead_code, reason = "closing it is what counts")] UnixStream);

/// What a server learns by that it is to stop.
#[derive(Debug)]
pub struct Stop(UnixStream);

impl Stop {
    /// The two ends.
    ///
    /// # Errors
    ///
    /// If there are no more file descriptors.
    pub fn new() -> io::Result<(Stopper, Self)> {
        let (tell, told) = UnixStream::pair()?;
        Ok((Stopper(tell), Self(told)))
    }
}

impl Stopper {
    /// Tells it.
    pub fn stop(self) {}
}

/// What ended a wait.
pub(crate) enum Event {
    /// The server is to stop.
    Stop,
    /// Clients may have come, or the time is over.
    Look,
}

/// Waits until a client comes, the server is to stop, or `patience` is over.
pub(crate) fn wait(
    listeners: &[Listener],
    stop: &Stop,
    patience: Option<Duration>,
) -> io::Result<Event> {
    let mut waiting = vec![PollFd::new(&stop.0, PollFlags::IN)];
    waiting.extend(listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    match poll(&mut waiting, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(if waiting[0].revents().is_empty() { Event::Look } else { Event::Stop })
}
