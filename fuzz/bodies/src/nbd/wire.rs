//! Clients and servers whose bytes are known beforehand.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qbm_nbd::{Channel, Peeked, Server, Wire};

/// What a client sends and hears.
#[derive(Default)]
struct Script {
    sends: Vec<u8>,
    /// How much of it the server has received.
    sent: usize,
    heard: Vec<u8>,
    gone: bool,
}

struct ScriptWire(Arc<Mutex<Script>>);

impl ScriptWire {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire for ScriptWire {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut script = self.lock();
        if script.gone {
            return Ok(0);
        }
        let rest = &script.sends[script.sent..];
        // In portions, so that requests are also cut in the middle.
        let count = rest.len().min(into.len()).min(1000);
        into[..count].copy_from_slice(&rest[..count]);
        script.sent += count;
        Ok(count)
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut script = self.lock();
        let before = script.heard.len();
        parts.iter().for_each(|part| script.heard.extend_from_slice(part));
        Ok(script.heard.len() - before)
    }

    fn stop_sending(&self) {}

    fn stop_receiving(&self) {
        self.lock().gone = true;
    }

    fn hang_up(&self) {
        self.lock().gone = true;
    }
}

/// What the server says to a client that sends `bytes` and no more.
pub(super) fn converse(server: &Server, bytes: Vec<u8>) -> Vec<u8> {
    let script = Arc::new(Mutex::new(Script { sends: bytes, ..Script::default() }));
    server.serve_wire(Box::new(ScriptWire(Arc::clone(&script))));
    let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut script.heard)
}

/// A connection to a server that says these parts: the first at once, and each other one when something is
/// sent to it after all before it has been received.
pub(super) struct ScriptChannel(Mutex<VecDeque<Vec<u8>>>);

impl ScriptChannel {
    pub(super) fn new(parts: VecDeque<Vec<u8>>) -> Self {
        Self(Mutex::new(parts))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire for ScriptChannel {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut parts = self.lock();
        let Some(part) = parts.front_mut() else { return Ok(0) };
        let count = part.len().min(into.len());
        into[..count].copy_from_slice(&part[..count]);
        part.drain(..count);
        Ok(count)
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut says = self.lock();
        if says.front().is_some_and(Vec::is_empty) {
            says.pop_front();
        }
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn stop_sending(&self) {}

    fn stop_receiving(&self) {}

    fn hang_up(&self) {}
}

impl Channel for ScriptChannel {
    fn prepare(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_patience(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn peek(&self) -> Peeked {
        let parts = self.lock();
        match parts.front() {
            Some(part) if !part.is_empty() => Peeked::Bytes,
            Some(_) if parts.len() > 1 => Peeked::Nothing,
            _ => Peeked::End,
        }
    }
}
