//! The server: who is let in, and what they can ask for.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::{Builder, Scope};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::arguments::{self, Options, Written};
use crate::events::Events;
use crate::monitor::{Monitor, Outlet};
use crate::peer::{self, Peer};
use crate::refusal::{Class, Refusal};

/// The release of QEMU whose commands and replies ours follow: major, minor, micro.
const FOLLOWED: (u32, u32, u32) = (10, 0, 0);

/// The commands of a server, besides those of the protocol itself.
pub trait Commands: Send + Sync + 'static {
    /// Their names.
    fn names(&self) -> &[&'static str];

    /// Does what is asked for. Calls come from several threads at once, one for each monitor.
    ///
    /// # Errors
    ///
    /// Why it was not done; [`Call::not_found`] if there is no such command.
    fn execute(&self, call: Call) -> Result<Value, Refusal>;
}

/// A command that somebody asks for.
#[derive(Debug)]
pub struct Call {
    /// Its name.
    pub command: String,
    /// What came with it.
    pub arguments: Map<String, Value>,
    /// Who asks.
    pub peer: Peer,
}

impl Call {
    /// The arguments as a `T`, which refuses members that it does not know.
    ///
    /// # Errors
    ///
    /// In QEMU's words: which one is missing, unexpected or of the wrong type.
    pub fn arguments<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        arguments::parse(self.arguments)
    }

    /// The arguments, to be parsed part by part.
    pub fn options(self) -> Options {
        Options::new(self.arguments, Written::Json)
    }

    /// That there are no arguments.
    ///
    /// # Errors
    ///
    /// As for [`arguments`](Self::arguments).
    pub fn nothing(self) -> Result<(), Refusal> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        self.arguments().map(|Nothing {}| ())
    }

    /// That there is no such command.
    pub fn not_found(&self) -> Refusal {
        let what = format!("The command {} has not been found", self.command);
        Refusal::new(Class::CommandNotFound, what)
    }
}

/// What a server is.
pub struct Config {
    /// The program and its version, for people.
    pub package: String,
    /// The users that may connect.
    pub allowed: Vec<u32>,
    /// Is given a line for each client that is turned away.
    pub report: Box<dyn Fn(&str) + Send + Sync>,
}

impl Config {
    /// A server of the program `package` for ourselves and root, which reports nothing.
    pub fn for_us(package: &str) -> Self {
        Self { package: package.to_owned(), allowed: peer::us(), report: Box::new(|_| {}) }
    }

    /// What `query-version` tells. Clients look into it for what they may ask for.
    pub(crate) fn version(&self) -> Value {
        let (major, minor, micro) = FOLLOWED;
        let followed = json!({ "micro": micro, "minor": minor, "major": major });
        json!({ "qemu": followed, "package": self.package })
    }
}

/// Lets clients in, and gives each a thread.
pub struct Server {
    listener: UnixListener,
    config: Config,
    commands: Arc<dyn Commands>,
    events: Events,
}

impl Server {
    /// A server of `commands` to those who come to `listener`.
    pub fn new(listener: UnixListener, config: Config, commands: Arc<dyn Commands>) -> Self {
        Self { listener, config, commands, events: Events::default() }
    }

    /// Where all monitors are told something.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Serves until it is told to [stop](Self::stop). When this returns, no command is under way.
    pub fn serve(&self) {
        std::thread::scope(|scope| {
            // It ends when the listener is shut down.
            while let Ok((stream, _)) = self.listener.accept() {
                self.welcome(stream, scope);
            }
            self.events.close();
        });
    }

    /// Lets [`serve`](Self::serve) return once the commands under way are done and answered, and all
    /// monitors are hung up on.
    pub fn stop(&self) {
        self.events.close();
        // It may have failed already, and then nobody waits at it.
        let _shut = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }

    fn welcome<'scope>(&'scope self, stream: UnixStream, scope: &'scope Scope<'scope, '_>) {
        // Without this much it is gone, or the machine is out of all: either way it is hung up on.
        let Ok(peer) = Peer::of(&stream) else { return };
        let Ok(outlet) = Outlet::new(stream).map(Arc::new) else { return };
        if !self.config.allowed.contains(&peer.uid) {
            (self.config.report)(&format!("{peer} is not allowed to control this"));
            return;
        }
        if !self.events.join(&outlet) {
            return;
        }
        let ours = Arc::clone(&outlet);
        let thread = Builder::new().name("monitor".to_owned());
        let spawned = thread.spawn_scoped(scope, move || {
            let (config, commands) = (&self.config, &*self.commands);
            Monitor { outlet: &ours, peer, config, commands }.serve();
            ours.hang_up();
            self.events.leave(&ours);
        });
        if spawned.is_err() {
            self.events.leave(&outlet);
        }
    }
}
