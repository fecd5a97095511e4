//! The NBD server: it is there from its start, by the command line or a monitor, to its stop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qbm_nbd::{Clients, Limits, Server, Stop, Stopper, Tls};
use qbm_qmp::{Call, Options, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::error;

use super::{Control, exports};
use crate::commands::serve::places::{Place, SocketFile};

/// A server that listens.
pub(in crate::commands) struct NbdServer {
    pub(super) server: Arc<Server>,
    stopper: Stopper,
    thread: JoinHandle<io::Result<()>>,
    /// Removed when clients cannot connect any more.
    _files: Vec<Option<SocketFile>>,
}

impl NbdServer {
    /// Lets `server` serve those who come to `places`.
    ///
    /// # Errors
    ///
    /// If there are no more file descriptors.
    pub(in crate::commands) fn start(
        server: Arc<Server>,
        places: Vec<Place>,
    ) -> anyhow::Result<Self> {
        let (stopper, stop) = Stop::new().context("stopping")?;
        let (listeners, _files): (Vec<_>, Vec<_>) = places.into_iter().map(Place::split).unzip();
        let serving = Arc::clone(&server);
        let serve = move || {
            let served = serving.serve(&listeners, &stop);
            if served.is_err() {
                // Without clients there is nothing to go on for. It may be ending already.
                let _told = kill(Pid::this(), Signal::SIGTERM);
            }
            served
        };
        Ok(Self { server, stopper, thread: std::thread::spawn(serve), _files })
    }

    /// Ends it once the requests under way are answered.
    ///
    /// # Errors
    ///
    /// If it could not wait for clients.
    pub(super) fn end(self) -> anyhow::Result<()> {
        self.stopper.stop();
        // One that has panicked has ended too.
        self.thread.join().unwrap_or(Ok(())).context("waiting for clients")
    }
}

/// `SocketAddress`, or with its members in `data` the older form of it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
enum Address {
    Unix { path: PathBuf },
    Inet { host: String, port: String },
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
enum AddressLegacy {
    Unix(UnixAddress),
    Inet(InetAddress),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnixAddress {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InetAddress {
    host: String,
    port: String,
}

impl From<AddressLegacy> for Address {
    fn from(address: AddressLegacy) -> Self {
        match address {
            AddressLegacy::Unix(UnixAddress { path }) => Self::Unix { path },
            AddressLegacy::Inet(InetAddress { host, port }) => Self::Inet { host, port },
        }
    }
}

/// What a server is besides its address.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct How {
    /// 0 stands for no limit of its own.
    #[serde(default)]
    max_connections: Option<u32>,
    #[serde(default, rename = "x-tls-certificates")]
    tls_certificates: Option<PathBuf>,
}

pub(super) fn start(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let mut options = call.options();
    let address: AddressLegacy = options.need("addr")?;
    start_at(control, address.into(), options.parse()?)
}

/// `--nbd-server` of the command line.
pub(super) fn start_by_options(control: &Control, mut options: Options) -> Result<(), Refusal> {
    let address = options.need("addr")?;
    start_at(control, address, options.parse()?).map(drop)
}

fn start_at(control: &Control, address: Address, how: How) -> Result<Value, Refusal> {
    let mut nbd = control.nbd();
    if nbd.is_some() {
        return Err(Refusal::generic("NBD server already running"));
    }
    let told = |error: anyhow::Error| Refusal::generic(format!("{error:#}"));
    let tls = how.tls_certificates.map(|folder| Tls::from_folder(&folder, Clients::Verified));
    let tls = tls.transpose().map_err(|error| Refusal::generic(error.to_string()))?;
    let place = match address {
        Address::Unix { path } => Place::unix(&path).map_err(told)?,
        Address::Inet { host, port } => {
            let number = port.parse();
            let number = number.map_err(|_| Refusal::generic(format!("invalid port '{port}'")))?;
            Place::tcp(&host, number).map_err(told)?
        }
    };
    let limits = Limits::default();
    let connections = match how.max_connections {
        Some(count) if count > 0 => count as usize,
        _ => limits.connections,
    };
    let limits = Limits { connections, ..limits };
    let server = Server::new(Vec::new(), limits, |line| error!("{line}"));
    let server = match tls {
        Some(tls) => server.with_tls(tls),
        None => server,
    };
    *nbd = Some(NbdServer::start(Arc::new(server), vec![place]).map_err(told)?);
    Ok(json!({}))
}

pub(super) fn stop(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    let Some(nbd) = control.nbd().take() else { return Err(not_running()) };
    let ended = nbd.end();
    exports::forget_all(control);
    ended.map(|()| json!({})).map_err(|error| Refusal::generic(format!("{error:#}")))
}

pub(super) fn not_running() -> Refusal {
    Refusal::generic("NBD server not running")
}
