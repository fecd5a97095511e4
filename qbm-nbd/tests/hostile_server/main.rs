//! The client against servers that lie, stop in the middle or say nothing, byte by byte: every field that
//! a server sends.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod handshakes;
mod losses;
mod replies;
mod server;
mod silence;
