//! An NBD server for images with dirty bitmaps, or for any [`Disk`] of your own; and the disk of another
//! server as a storage: [`NbdStorage`].
//!
//! It speaks the fixed newstyle protocol of the NBD project's `doc/proto.md`: structured replies,
//! extended headers, metadata contexts (`base:allocation`, and QEMU's `qemu:allocation-depth` and
//! `qemu:dirty-bitmap:NAME`), and several connections to one export. It has threads and no executor.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use std::sync::Arc;
//!
//! use qbm_core::Access;
//! use qbm_nbd::{Disk, Export, Limits, Listener, Server, Stop};
//!
//! # fn serve(disk: Arc<dyn Disk>) -> std::io::Result<()> {
//! let export = Export {
//!     name: "vm".to_owned(),
//!     description: String::new(),
//!     disk,
//!     access: Access::Write,
//!     bitmaps: vec!["nightly".to_owned()],
//! };
//! let server = Server::new(vec![export], Limits::default(), |line| eprintln!("{line}"));
//! let (stopper, stop) = Stop::new()?;
//! // Whoever drops `stopper` stops the server.
//! server.serve(&[Listener::Tcp(TcpListener::bind("127.0.0.1:10809")?)], &stop)
//! # }
//! ```
//!
//! # Threads
//!
//! Each client has a thread for its handshake. In transmission it has two or more, up to
//! [`limits::MAX_IN_FLIGHT`], which take turns to receive; a request is worked on and answered by
//! the thread that received it, so that neither a slow disk nor a bitmap that is being synced holds
//! up other requests.
//!
//! # Clients are strangers
//!
//! Whatever a client can make grow has a limit in [`limits`]. A client gets errors for requests that
//! cannot be, and is hung up on where it cannot be followed any more. It never makes the server
//! panic, and if a disk panics, that ends the connection that asked.
#![forbid(unsafe_code)]

mod client;
mod connection;
mod disk;
mod export;
mod handshake;
mod image;
pub mod limits;
mod listener;
mod moving;
mod peer;
mod point;
pub mod protocol;
mod receiver;
mod registry;
mod reports;
mod server;
mod statistics;
mod storage;
mod tls;
mod wire;

pub use client::{NbdStorage, NbdUri, NotAnUri, Origin, Patience};
pub use disk::{Context, Disk, Extent, Fault, Pace};
pub use export::Export;
pub use limits::Limits;
pub use listener::{Listener, Stop, Stopper};
pub use moving::{MovingDisk, Place, Placed};
pub use point::PointDisk;
pub use registry::ServedClient;
pub use server::{ExportRefused, Server};
pub use statistics::{Count, Statistics};
pub use storage::StorageDisk;
pub use tls::{ClientTls, Clients, Tls, TlsError};
pub use wire::{Channel, Peeked, Socket, Wire};
