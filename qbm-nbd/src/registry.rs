//! The clients that are connected: how many are served, who is hung up on, and when all are gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::limits::{Limits, MAX_HANDSHAKES, MAX_REPORTS};
use crate::peer::Peer;
use crate::statistics::Statistics;

/// How soon to look again whether somebody still has an export.
const LOOK: Duration = Duration::from_millis(10);

/// A client that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedClient {
    /// The name of the export that it has chosen.
    pub export: String,
    /// Where it comes from: the address of a network, or empty for this machine.
    pub address: String,
}

/// The clients that are connected, by the order in which they came.
pub(crate) struct Registry {
    limits: Limits,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<u64, Client>,
    next: u64,
}

struct Client {
    peer: Arc<Peer>,
    /// The export that it has chosen; `None` during its handshake.
    export: Option<String>,
    /// Since when it is in its handshake; `None` once it is served.
    handshake: Option<Instant>,
}

impl State {
    fn serving(&self) -> usize {
        self.clients.values().filter(|client| client.handshake.is_none()).count()
    }

    /// Those in their handshake, oldest first.
    fn handshakes(&self) -> impl Iterator<Item = (u64, Instant)> {
        self.clients.iter().filter_map(|(number, client)| Some((*number, client.handshake?)))
    }

    /// Hangs up on the client that has been in its handshake for longest, if there is one.
    fn evict_oldest(&mut self, statistics: &Statistics) {
        let oldest = self.handshakes().next();
        if let Some((number, _)) = oldest {
            self.evict(number, statistics);
        }
    }

    /// Hangs up on a client. It is forgotten here at once, so that it counts no longer.
    fn evict(&mut self, number: u64, statistics: &Statistics) {
        if let Some(client) = self.clients.remove(&number) {
            statistics.evicted.add(1);
            client.peer.wire.hang_up();
        }
    }
}

impl Registry {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), left: Condvar::new() }
    }

    /// Adds a client that begins its handshake. If there are too many of its kind, the oldest has to
    /// go: an honest client has done its handshake by then.
    pub(crate) fn add(&self, peer: Arc<Peer>, statistics: &Statistics) -> u64 {
        let mut state = self.lock();
        while state.handshakes().count() >= MAX_HANDSHAKES {
            state.evict_oldest(statistics);
        }
        let number = state.next;
        state.next += 1;
        state
            .clients
            .insert(number, Client { peer, export: None, handshake: Some(Instant::now()) });
        number
    }

    /// Lets a client be served, if it is still here and not too many are.
    pub(crate) fn admit(&self, number: u64, statistics: &Statistics) -> bool {
        let mut state = self.lock();
        let full = state.serving() >= self.limits.connections;
        let Some(client) = state.clients.get_mut(&number) else { return false };
        if full {
            drop(state);
            // Nobody waits while that is told.
            if statistics.refused.add(1) < MAX_REPORTS {
                warn!("client {number} is refused: {} are served", self.limits.connections);
            }
            return false;
        }
        client.handshake = None;
        statistics.serving.add(1);
        true
    }

    /// The client has chosen the export `name`.
    pub(crate) fn choose(&self, number: u64, name: &str) {
        if let Some(client) = self.lock().clients.get_mut(&number) {
            client.export = Some(name.to_owned());
        }
    }

    /// Those who have chosen an export: which one, and from where they come.
    pub(crate) fn served(&self) -> Vec<ServedClient> {
        let state = self.lock();
        let served = state.clients.values().filter_map(|client| {
            let address = client.peer.address.clone();
            Some(ServedClient { export: client.export.clone()?, address })
        });
        served.collect()
    }

    /// Hangs up on those who have chosen the export `name`, and waits until `nobody_has_it`.
    pub(crate) fn end_export(&self, name: &str, nobody_has_it: &dyn Fn() -> bool) {
        let mut state = self.lock();
        let chosen = |client: &&Client| client.export.as_deref() == Some(name);
        state.clients.values().filter(chosen).for_each(|client| client.peer.wire.hang_up());
        while !nobody_has_it() {
            // Those in their handshake look at it for a moment, and say nothing when they are done.
            (state, _) =
                self.left.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The client is gone; whether it had not been hung up on.
    pub(crate) fn remove(&self, number: u64, statistics: &Statistics) -> bool {
        let client = self.lock().clients.remove(&number);
        let was_here = client.is_some();
        if client.is_some_and(|client| client.handshake.is_none()) {
            statistics.serving.subtract(1);
        }
        self.left.notify_all();
        was_here
    }

    /// Hangs up on the client that has been in its handshake for longest, to make room.
    pub(crate) fn evict_oldest(&self, statistics: &Statistics) {
        self.lock().evict_oldest(statistics);
    }

    /// Hangs up on those whose handshake takes too long; returns when to look again.
    pub(crate) fn evict_slow(&self, statistics: &Statistics) -> Option<Duration> {
        let mut state = self.lock();
        loop {
            let (number, since) = state.handshakes().next()?;
            let left = self.limits.handshake.saturating_sub(since.elapsed());
            if !left.is_zero() {
                return Some(left);
            }
            state.evict(number, statistics);
        }
    }

    /// Ends all connections: at once those in their handshake, and the others when what they have
    /// asked for is answered, or after the grace. Returns when none is left in the registry.
    pub(crate) fn end_all(&self) {
        let mut state = self.lock();
        for client in state.clients.values() {
            match client.handshake {
                Some(_) => client.peer.wire.hang_up(),
                None => client.peer.stop(),
            }
        }
        let here = |state: &mut State| !state.clients.is_empty();
        let grace = self.limits.grace;
        (state, _) = self
            .left
            .wait_timeout_while(state, grace, here)
            .unwrap_or_else(PoisonError::into_inner);
        state.clients.values().for_each(|client| client.peer.wire.hang_up());
        // What is left are requests that the disk works on. They end by themselves.
        drop(self.left.wait_while(state, here));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
