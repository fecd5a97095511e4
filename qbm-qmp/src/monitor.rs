//! One monitor: what it asks, in its order, and what it is told.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::framer::Framer;
use crate::json;
use crate::limits::{MAX_MESSAGE, SEND};
use crate::peer::Peer;
use crate::refusal::{Class, Refusal};
use crate::request::Request;
use crate::server::{Call, Commands, Config};

/// Where a monitor is told something, by whatever thread.
#[derive(Debug)]
pub(crate) struct Outlet {
    stream: UnixStream,
    /// Whether the monitor has negotiated its capabilities.
    open: AtomicBool,
    /// Held while a message is sent, so that none is cut by another.
    sending: Mutex<()>,
}

impl Outlet {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_write_timeout(Some(SEND))?;
        Ok(Self { stream, open: AtomicBool::new(false), sending: Mutex::new(()) })
    }

    /// Whether it wants to hear of events.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Sends `message`. If that is not possible, the monitor is hung up on: it must not take the
    /// rest of a message for the beginning of one.
    pub(crate) fn send(&self, message: &Value) {
        let line = format!("{}\r\n", json::to_line(message));
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if (&self.stream).write_all(line.as_bytes()).is_err() {
            self.hang_up();
        }
    }

    /// Lets its thread end once it has answered.
    pub(crate) fn stop_hearing(&self) {
        // It may have hung up already.
        let _closed = self.stream.shutdown(Shutdown::Read);
    }

    pub(crate) fn hang_up(&self) {
        // It may have hung up already.
        let _closed = self.stream.shutdown(Shutdown::Both);
    }
}

/// One monitor, as its thread sees it.
pub(crate) struct Monitor<'a> {
    pub(crate) outlet: &'a Outlet,
    pub(crate) peer: Peer,
    pub(crate) config: &'a Config,
    pub(crate) commands: &'a dyn Commands,
}

/// What a client may want to have switched on: nothing is offered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Capabilities {
    #[serde(default)]
    enable: Vec<String>,
}

impl Monitor<'_> {
    /// Greets the monitor, and answers it until it goes.
    pub(crate) fn serve(&self) {
        let greeting = json!({ "version": self.config.version(), "capabilities": [] });
        self.outlet.send(&json!({ "QMP": greeting }));
        let mut framer = Framer::new(MAX_MESSAGE);
        let mut bytes = [0; 4096];
        loop {
            let count = match (&self.outlet.stream).read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            for frame in bytes[..count].iter().filter_map(|byte| framer.push(*byte)) {
                let message = frame.map_err(|broken| Refusal::generic(broken.to_string()));
                let message = message.and_then(|message| {
                    let broken = |error| Refusal::generic(format!("JSON parse error, {error}"));
                    json::parse(&message).map_err(broken)
                });
                self.outlet.send(&self.answer(message));
            }
        }
    }

    fn answer(&self, message: Result<Value, Refusal>) -> Value {
        let (id, done) = match message.map(Request::new) {
            Ok(Request { id, wanted }) => (id, wanted.and_then(|wanted| self.execute(wanted))),
            Err(refusal) => (None, Err(refusal)),
        };
        let mut reply = Map::new();
        match done {
            Ok(value) => reply.insert("return".to_owned(), value),
            Err(refusal) => reply.insert("error".to_owned(), refusal.to_json()),
        };
        reply.extend(id.map(|id| ("id".to_owned(), id)));
        Value::Object(reply)
    }

    fn execute(
        &self,
        (command, arguments): (String, Map<String, Value>),
    ) -> Result<Value, Refusal> {
        let call = Call { command, arguments, peer: self.peer };
        let early = |what| Err(Refusal::new(Class::CommandNotFound, what));
        match (call.command.as_str(), self.outlet.is_open()) {
            ("qmp_capabilities", false) => self.negotiate(call),
            ("qmp_capabilities", true) => {
                early("Capabilities negotiation is already complete, command ignored")
            }
            (_, false) => early("Expecting capabilities negotiation with 'qmp_capabilities'"),
            ("query-version", true) => call.nothing().map(|()| self.config.version()),
            ("query-commands", true) => call.nothing().map(|()| self.names()),
            (_, true) => self.commands.execute(call),
        }
    }

    fn negotiate(&self, call: Call) -> Result<Value, Refusal> {
        let Capabilities { enable } = call.arguments()?;
        if let Some(unknown) = enable.first() {
            let what = format!("Parameter 'enable[0]' does not accept value '{unknown}'");
            return Err(Refusal::generic(what));
        }
        self.outlet.open.store(true, Ordering::Release);
        Ok(json!({}))
    }

    fn names(&self) -> Value {
        let ours = ["qmp_capabilities", "query-commands", "query-version"];
        let names = ours.iter().chain(self.commands.names());
        names.map(|name| json!({ "name": name })).collect()
    }
}
