//! QMP, the QEMU Machine Protocol, as `docs/interop/qmp-spec` of QEMU describes it: a server for
//! commands of your own, and a client. It knows no disk and no image.
//!
//! ```
//! use std::os::unix::net::UnixListener;
//! use std::sync::Arc;
//!
//! use qbm_qmp::{Call, Client, Commands, Config, Refusal, Server};
//! use serde_json::{Value, json};
//!
//! struct Clock;
//!
//! impl Commands for Clock {
//!     fn names(&self) -> &[&'static str] {
//!         &["query-time"]
//!     }
//!
//!     fn execute(&self, call: Call) -> Result<Value, Refusal> {
//!         match call.command.as_str() {
//!             "query-time" => Ok(json!({ "seconds": 7 })),
//!             _ => Err(call.not_found()),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("qmp");
//! let config = Config::for_us("a clock");
//! let server = Server::new(UnixListener::bind(&path)?, config, Arc::new(Clock));
//! std::thread::scope(|scope| {
//!     scope.spawn(|| server.serve());
//!     let told = Client::connect(&path, &[]).and_then(|mut client| {
//!         client.execute("query-time", &json!({}))
//!     });
//!     server.stop();
//!     assert_eq!(told.unwrap(), json!({ "seconds": 7 }));
//! });
//! # Ok(())
//! # }
//! ```
//!
//! # Who may
//!
//! Whoever may connect can do what the commands can. So the server asks the kernel who is at the
//! other end, and hangs up on users who are not on its list; a client does the same with the server,
//! since a socket may be where others can put one. What is received has limits, in [`limits`].
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod events;
mod framer;
pub mod json;
pub mod limits;
mod monitor;
mod peer;
mod refusal;
mod request;
mod server;

pub use arguments::{Options, Part, Written};
pub use client::{Client, ClientError, Event};
pub use events::Events;
pub use framer::{Broken, Framer};
pub use peer::Peer;
pub use refusal::{Class, Refusal};
pub use server::{Call, Commands, Config, Server};
