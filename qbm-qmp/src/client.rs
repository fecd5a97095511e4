//! A client: one command at a time, and the events in between.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::framer::Framer;
use crate::json;
use crate::limits::MAX_REPLY;
use crate::peer::{self, Peer};

/// Why a command was not done, as far as the client knows.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection cannot be made, or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server refused.
    #[error("{what}")]
    Refused {
        /// The class of the error.
        class: String,
        /// Its description.
        what: String,
    },
    /// What answers does not speak QMP.
    #[error("what answers there does not speak QMP: {0}")]
    Protocol(String),
    /// What answers belongs to somebody else.
    #[error("{0} answers there, whom this is not to be told")]
    Stranger(Peer),
}

/// Something that has happened at the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What.
    pub name: String,
    /// More about it.
    pub data: Value,
}

/// A connection to a server, after the negotiation.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    framer: Framer,
    messages: VecDeque<Value>,
    events: VecDeque<Event>,
}

impl Client {
    /// Connects to the server at `path`, which runs as ourselves, as root, or as one of `others`.
    ///
    /// # Errors
    ///
    /// If there is none, or it is somebody else's.
    pub fn connect(path: &Path, others: &[u32]) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)?;
        let server = Peer::of(&stream)?;
        if !peer::us().contains(&server.uid) && !others.contains(&server.uid) {
            return Err(ClientError::Stranger(server));
        }
        let framer = Framer::new(MAX_REPLY);
        let (messages, events) = (VecDeque::new(), VecDeque::new());
        let mut client = Self { stream, framer, messages, events };
        let greeting = client.message()?;
        if greeting.get("QMP").is_none() {
            return Err(ClientError::Protocol("there is no greeting".to_owned()));
        }
        client.execute("qmp_capabilities", &json!({}))?;
        Ok(client)
    }

    /// Lets the server do `command`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], or an error of the connection: then nobody knows.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, ClientError> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.write_all(format!("{}\r\n", json::to_line(&request)).as_bytes())?;
        loop {
            let mut message = self.message()?;
            if let Some(event) = event(&mut message) {
                self.events.push_back(event);
            } else if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            } else {
                return Err(refusal(&message));
            }
        }
    }

    /// The next event; `None` if there is none within `patience`.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub fn next_event(&mut self, patience: Duration) -> Result<Option<Event>, ClientError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        self.stream.set_read_timeout(Some(patience))?;
        let message = self.message();
        self.stream.set_read_timeout(None)?;
        match message {
            Ok(mut message) => Ok(event(&mut message)),
            Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn message(&mut self) -> Result<Value, ClientError> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            let count = match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            for frame in bytes[..count].iter().filter_map(|byte| self.framer.push(*byte)) {
                let message = frame.map_err(|error| ClientError::Protocol(error.to_string()))?;
                let message = json::parse(&message);
                let message = message.map_err(|error| ClientError::Protocol(error.to_string()))?;
                self.messages.push_back(message);
            }
        }
    }
}

fn event(message: &mut Value) -> Option<Event> {
    let name = message.get("event")?.as_str()?.to_owned();
    let data = message.get_mut("data").map_or(Value::Null, Value::take);
    Some(Event { name, data })
}

fn refusal(message: &Value) -> ClientError {
    let text = |name: &str| message.pointer(name).and_then(Value::as_str).map(str::to_owned);
    match (text("/error/class"), text("/error/desc")) {
        (Some(class), Some(what)) => ClientError::Refused { class, what },
        _ => ClientError::Protocol(json::to_line(message)),
    }
}
