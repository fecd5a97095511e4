//! A client whose bytes are known beforehand.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qbm_nbd::{Server, Wire};

/// What such a client sends and hears.
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
