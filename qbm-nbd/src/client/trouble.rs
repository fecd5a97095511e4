//! Why a request failed, and whether the connection goes on after it.

use std::io;

use crate::limits::MAX_NAME;
use crate::protocol::{Data, Malformed};

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server has said so, and the connection goes on.
    Refused(io::Error),
    /// The connection is broken, or the server is out of step.
    Broken(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// What the server says cannot be.
pub(super) fn out_of_step(what: &str) -> io::Error {
    strange(format!("the server does not follow the protocol: {what}"))
}

/// The server is of no use here.
pub(super) fn strange(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads all of `bytes`, which are of something that ends where they do.
pub(super) fn whole<'b, T>(
    bytes: &'b [u8],
    what: &str,
    read: impl FnOnce(&mut Data<'b>) -> Result<T, Malformed>,
) -> io::Result<T> {
    let mut data = Data(bytes);
    let value = read(&mut data);
    let value = value.and_then(|value| data.end().map(|()| value));
    value.map_err(|_| out_of_step(&format!("{what} of {} bytes", bytes.len())))
}

/// A server's `words` for people, after what we say; none if there are none.
pub(super) fn in_words(words: &[u8]) -> io::Result<String> {
    if words.len() > MAX_NAME {
        return Err(out_of_step(&format!("an explanation of {} bytes", words.len())));
    }
    let words = String::from_utf8_lossy(words);
    Ok(if words.is_empty() { String::new() } else { format!(": {}", words.escape_debug()) })
}
