//! Events: what a server tells all its monitors without being asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::limits::MAX_MONITORS;
use crate::monitor::Outlet;

/// The monitors that are connected. Clones lead to the same ones.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    outlets: Vec<Arc<Outlet>>,
    /// Whether no more may come.
    closed: bool,
}

impl Events {
    /// Tells every monitor that has negotiated its capabilities that `name` has happened.
    pub fn emit(&self, name: &str, data: &Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = json!({ "seconds": now.as_secs(), "microseconds": now.subsec_micros() });
        let event = json!({ "timestamp": timestamp, "event": name, "data": data });
        // Not under the lock: a monitor that does not read keeps nobody but us waiting.
        let outlets = self.state().outlets.clone();
        outlets.iter().filter(|outlet| outlet.is_open()).for_each(|outlet| outlet.send(&event));
    }

    /// Adds a monitor, if there is room for one.
    pub(crate) fn join(&self, outlet: &Arc<Outlet>) -> bool {
        let mut state = self.state();
        let room = !state.closed && state.outlets.len() < MAX_MONITORS;
        if room {
            state.outlets.push(Arc::clone(outlet));
        }
        room
    }

    pub(crate) fn leave(&self, outlet: &Arc<Outlet>) {
        self.state().outlets.retain(|other| !Arc::ptr_eq(other, outlet));
    }

    /// Hears no more from any monitor. Those whose command is under way are still answered.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.outlets.iter().for_each(|outlet| outlet.stop_hearing());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
