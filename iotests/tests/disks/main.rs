//! Disks behind NBD servers as data images: the servers that people have, what becomes of marks and data
//! when one of them or ours is killed, and what is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod images;
mod losses;
mod servers;
mod tls;
