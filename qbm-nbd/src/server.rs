//! The server: accepts clients, gives each a thread, and ends them all when it is told to.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Duration;

use tracing::{debug, error, warn};

use crate::connection::memory::Memory;
use crate::connection::{Connection, STACK};
use crate::export::Export;
use crate::handshake::Handshake;
use crate::limits::{Limits, MAX_NAME, MAX_REPORTS};
use crate::listener::{Event, Listener, Stop, wait};
use crate::peer::Peer;
use crate::registry::{Registry, ServedClient};
use crate::reports::Reports;
use crate::statistics::Statistics;
use crate::tls::Tls;
use crate::wire::{Channel, Socket, Wire};

/// How long to wait where no client can be accepted, because there are no more file descriptors or
/// threads. Each time the oldest handshake has to go.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// Why an export was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportRefused {
    /// Another has its name.
    #[error("NBD server already has export named '{0}'")]
    NameTaken(String),
    /// Its name or description is longer than [`MAX_NAME`].
    #[error("export name or description is longer than {MAX_NAME} bytes")]
    TooLong,
}

/// Exports, and the clients that see them.
pub struct Server {
    exports: Mutex<Vec<Arc<Export>>>,
    tls: Option<Tls>,
    limits: Limits,
    registry: Registry,
    statistics: Arc<Statistics>,
    reports: Reports,
    memory: Memory,
}

impl Server {
    /// A server of `exports`; the first is also the default one. `report` is given a line for each
    /// failure of a disk, up to [`MAX_REPORTS`](crate::limits::MAX_REPORTS).
    ///
    /// # Panics
    ///
    /// If two exports have the same name, or a name or description is longer than
    /// [`MAX_NAME`].
    pub fn new(
        exports: Vec<Export>,
        limits: Limits,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let server = Self {
            exports: Mutex::default(),
            tls: None,
            registry: Registry::new(limits.clone()),
            limits,
            statistics: Arc::default(),
            reports: Reports(Box::new(report)),
            memory: Memory::new(),
        };
        for export in exports {
            server.add(export).expect("texts are short, and names differ");
        }
        server
    }

    /// Adds an export, for clients to come.
    ///
    /// # Errors
    ///
    /// If there is one of this name, or a text is longer than [`MAX_NAME`].
    pub fn add(&self, export: Export) -> Result<(), ExportRefused> {
        let texts = [&export.name, &export.description];
        if texts.iter().any(|text| text.len() > MAX_NAME) {
            return Err(ExportRefused::TooLong);
        }
        let mut exports = self.exports();
        if exports.iter().any(|other| other.name == export.name) {
            return Err(ExportRefused::NameTaken(export.name));
        }
        exports.push(Arc::new(export));
        Ok(())
    }

    /// Removes the export `name`, if there is one, and hangs up on its clients. When this returns, none
    /// of their requests is under way, and nobody here has its disk any more.
    pub fn remove(&self, name: &str) {
        let removed = {
            let mut exports = self.exports();
            let index = exports.iter().position(|export| export.name == name);
            index.map(|index| exports.remove(index))
        };
        if let Some(export) = removed {
            self.registry.end_export(name, &|| Arc::strong_count(&export) == 1);
        }
    }

    /// The clients that are served now.
    pub fn clients(&self) -> Vec<ServedClient> {
        self.registry.served()
    }

    fn exports(&self) -> MutexGuard<'_, Vec<Arc<Export>>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for clients that speak TLS, and no others.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// What it has done so far; the counts go on.
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// Serves all who come to `listeners`, until it is told to stop. Requests under way are then
    /// answered, for as long as the client reads the replies and [`Limits::grace`] lasts. When this
    /// returns, no request is under way and no thread is left.
    ///
    /// # Errors
    ///
    /// If the listeners cannot be waited for.
    pub fn serve(&self, listeners: &[Listener], stop: &Stop) -> io::Result<()> {
        listeners.iter().try_for_each(Listener::set_nonblocking)?;
        std::thread::scope(|scope| {
            let ended = self.accept_until(listeners, stop, scope);
            self.registry.end_all();
            ended
        })
    }

    fn accept_until<'scope>(
        &'scope self,
        listeners: &[Listener],
        stop: &Stop,
        scope: &'scope Scope<'scope, '_>,
    ) -> io::Result<()> {
        let mut exhausted = false;
        loop {
            let slow = self.registry.evict_slow(&self.statistics);
            let patience = match (slow, exhausted) {
                (Some(slow), true) => Some(slow.min(EXHAUSTED)),
                (None, true) => Some(EXHAUSTED),
                (slow, false) => slow,
            };
            // While exhausted, only the stop is waited for: a listener would be ready at once.
            let ready = if exhausted { &[] } else { listeners };
            match wait(ready, stop, patience)? {
                Event::Stop => return Ok(()),
                Event::Look => {}
            }
            exhausted = !listeners.iter().all(|listener| self.accept_all(listener, scope));
            if exhausted {
                self.registry.evict_oldest(&self.statistics);
            }
        }
    }

    /// Accepts all who have come; whether that could be done.
    fn accept_all<'scope>(
        &'scope self,
        listener: &Listener,
        scope: &'scope Scope<'scope, '_>,
    ) -> bool {
        loop {
            match listener.accept() {
                Ok(socket) => {
                    if !self.welcome(socket, scope) {
                        return false;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return true,
                    // The client was gone before it was accepted.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => return false,
                },
            }
        }
    }

    /// Gives a client its thread; whether there was one.
    fn welcome<'scope>(&'scope self, socket: Socket, scope: &'scope Scope<'scope, '_>) -> bool {
        if socket.prepare(self.limits.send).is_err() {
            // The client is gone already.
            return true;
        }
        let address = socket.address();
        let peer = Arc::new(Peer::new(Arc::new(socket), address));
        let number = self.registry.add(Arc::clone(&peer), &self.statistics);
        let thread = Builder::new().name("nbd-client".to_owned()).stack_size(STACK);
        let spawned = thread.spawn_scoped(scope, move || self.attend(&peer, number)).is_ok();
        if !spawned {
            self.registry.remove(number, &self.statistics);
        }
        spawned
    }

    /// Serves one client on the calling thread, until it goes. Whoever calls this sees to it that
    /// the wire is not silent for ever.
    pub fn serve_wire(&self, wire: Box<dyn Wire>) {
        let peer = Arc::new(Peer::new(Arc::from(wire), String::new()));
        let number = self.registry.add(Arc::clone(&peer), &self.statistics);
        self.attend(&peer, number);
    }

    fn attend(&self, peer: &Peer, number: u64) {
        self.statistics.connections.add(1);
        debug!("client {number} has connected from '{}'", peer.address);
        if catch_unwind(AssertUnwindSafe(|| self.converse(peer, number))).is_err() {
            self.statistics.panics.add(1);
            error!("a bug has ended the connection of client {number}");
        }
        peer.wire.hang_up();
        if self.registry.remove(number, &self.statistics) {
            debug!("client {number} has gone");
        } else if self.statistics.evicted.get() <= MAX_REPORTS {
            warn!("client {number} was cut off in its handshake, which was slow or one of many");
        }
    }

    fn converse(&self, peer: &Peer, number: u64) {
        let admit = || self.registry.admit(number, &self.statistics);
        let wire = Arc::clone(&peer.wire);
        // Those of now: what becomes of them meanwhile is for the next client.
        let exports = self.exports().iter().map(Arc::downgrade).collect();
        let handshake = Handshake::new(exports, wire, self.tls.as_ref(), &admit);
        let session = match handshake.run() {
            Ok(session) => session,
            // That is the client's affair.
            Err(error) => return debug!("client {number} broke off its handshake: {error}"),
        };
        if let Some(session) = session {
            let name = &session.export.name;
            self.registry.choose(number, name);
            if !self.exports().iter().any(|export| Arc::ptr_eq(export, &session.export)) {
                // It was removed before the client could be told so.
                return;
            }
            debug!("client {number} is served export '{name}'");
            let shared = (&*self.statistics, &self.reports, &self.memory);
            Connection::new(session, peer, shared).serve();
        }
    }
}
