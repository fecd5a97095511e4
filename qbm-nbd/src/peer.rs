//! A client, as whoever stops the server sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wire::Wire;

/// A client's connection, and whether it is to end.
pub(crate) struct Peer {
    /// As it was accepted, without what is spoken over it.
    pub(crate) wire: Arc<dyn Wire>,
    /// Where it comes from, for people.
    pub(crate) address: String,
    stopping: AtomicBool,
}

impl Peer {
    pub(crate) fn new(wire: Arc<dyn Wire>, address: String) -> Self {
        Self { wire, address, stopping: AtomicBool::new(false) }
    }

    /// Lets it end once the requests that have been received are answered.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wire.stop_receiving();
    }

    /// Whether no request is to be taken any more, not even one that has come.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
