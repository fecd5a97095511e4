//! Where a disk is: the server, what it is reached by, and the export.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Line, Patience};
use super::uri::{NbdUri, Place};
use crate::tls::{ClientTls, TlsWire};
use crate::wire::{Channel, Socket};

/// The disk of a server, and how to reach it.
pub struct Origin {
    dial: Box<Dial>,
    pub(super) export: String,
    tls: Option<ClientTls>,
    pub(super) patience: Patience,
}

/// Makes a connection, within a time.
type Dial = dyn Fn(Duration) -> io::Result<Box<dyn Channel>> + Send + Sync;

impl Origin {
    /// At an address.
    ///
    /// # Errors
    ///
    /// If the certificates that it names cannot be used.
    pub fn at(uri: &NbdUri) -> io::Result<Self> {
        let tls = uri
            .secrecy
            .as_ref()
            .map(|secrecy| ClientTls::from_folder(&secrecy.certificates, &secrecy.server));
        let tls = tls.transpose().map_err(io::Error::other)?;
        let place = uri.place.clone();
        let dial = Box::new(move |time| Ok(Box::new(dial(&place, time)?) as _));
        Ok(Self { dial, export: uri.export.clone(), tls, patience: Patience::default() })
    }

    /// The export `export` of a server that `dial` connects to, by whatever means: it is asked for
    /// several connections, and again for each that breaks.
    pub fn by(
        dial: impl Fn() -> io::Result<Box<dyn Channel>> + Send + Sync + 'static,
        export: &str,
    ) -> Self {
        let (dial, export) = (Box::new(move |_| dial()), export.to_owned());
        Self { dial, export, tls: None, patience: Patience::default() }
    }

    /// The same through TLS.
    #[must_use]
    pub fn with_tls(self, tls: ClientTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same with other limits of time.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Makes a connection.
    pub(super) fn dial(&self) -> io::Result<Line> {
        Line::new((self.dial)(self.patience.handshake)?, self.patience)
    }

    /// Begins to speak TLS over `line`, if it is to be spoken.
    pub(super) fn secure(&self, line: &Arc<Line>) -> io::Result<Option<TlsWire>> {
        let Some(tls) = &self.tls else { return Ok(None) };
        TlsWire::connect(Arc::clone(line) as _, tls).map(Some)
    }

    pub(super) fn is_secret(&self) -> bool {
        self.tls.is_some()
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("export", &self.export).finish_non_exhaustive()
    }
}

fn dial(place: &Place, time: Duration) -> io::Result<Socket> {
    match place {
        Place::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        Place::Tcp(host, port) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, time) {
                    Ok(stream) => return Ok(Socket::Tcp(stream)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}
