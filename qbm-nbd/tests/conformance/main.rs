//! The server against the protocol document, byte by byte: each option, command, flag and error.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod client;
mod client_tls;
mod commands;
mod contexts;
mod extended;
mod handshake;
mod limits;
mod memory;
mod progress;
mod stopping;
mod tls;
