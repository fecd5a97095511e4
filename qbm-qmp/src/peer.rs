//! Who is at the other end of a socket.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;

/// A process at the other end, as the kernel knows it since it connected or listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id; another process may have it by now.
    pub pid: i32,
    /// The user that it acted as.
    pub uid: u32,
}

impl Peer {
    /// Who is at the other end of `stream`.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(stream)?;
        let pid = credentials.pid.as_raw_nonzero().get();
        Ok(Self { pid, uid: credentials.uid.as_raw() })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {}", self.pid, self.uid)
    }
}

/// Ourselves, and root, who can do all that we can.
pub(crate) fn us() -> Vec<u32> {
    vec![rustix::process::geteuid().as_raw(), 0]
}
