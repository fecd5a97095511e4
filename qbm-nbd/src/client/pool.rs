//! The connections of a disk: who uses which, and what becomes of them when one breaks.
//!
//! All connections are made together, and all are given up together. So a write that was acknowledged and
//! a flush that comes after it have met the same server, whichever connections they took: had it been
//! started anew in between, the older of the two connections would be dead.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qbm_core::Access;

use super::handshake::shake;
use super::ledger::Ledger;
use super::link::Link;
use super::offer::Offer;
use super::origin::Origin;
use super::trouble::Trouble;

/// Connections to a server that keeps them in step.
const MAX_LINKS: usize = 4;

/// How long to wait before it is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a request that changes nothing is sent, if each time the connection breaks.
const MAX_TRIES: usize = 3;

#[derive(Debug)]
pub(super) struct Pool {
    origin: Origin,
    access: Access,
    offer: Offer,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Counts how often all connections were made anew.
    epoch: u64,
    free: Vec<Link>,
    /// Whether a connection of this epoch has broken, and somebody is to make all of them anew.
    broken: bool,
    /// Whether somebody is at that.
    connecting: bool,
    ledger: Ledger,
    /// Why the disk is lost.
    lost: Option<String>,
}

impl Pool {
    /// Connects.
    pub(super) fn connect(origin: Origin, access: Access) -> io::Result<(Self, Offer)> {
        let (free, offer) = connect_all(&origin, access)?;
        let state = State {
            epoch: 0,
            free,
            broken: false,
            connecting: false,
            ledger: Ledger::default(),
            lost: None,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok((Self { origin, access, offer: offer.clone(), state, changed }, offer))
    }

    /// Does `work`, which changes nothing, and does it again where a connection has broken, but not on
    /// end: a server may break at each.
    pub(super) fn ask(
        &self,
        work: &mut dyn FnMut(&mut Link) -> Result<(), Trouble>,
    ) -> io::Result<()> {
        let mut tried = 0;
        loop {
            let (epoch, mut link) = self.take()?;
            tried += 1;
            match work(&mut link) {
                Ok(()) => {
                    self.put_back(epoch, link);
                    return Ok(());
                }
                Err(Trouble::Refused(error)) => {
                    self.put_back(epoch, link);
                    return Err(error);
                }
                Err(Trouble::Broken(error)) => {
                    self.note_break(epoch, &error)?;
                    // One that is out of step would be so again.
                    if tried == MAX_TRIES || error.kind() == io::ErrorKind::InvalidData {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Does `work`, which may change the disk. If the connection breaks, nobody knows whether it did, and
    /// the disk is lost.
    pub(super) fn change(
        &self,
        work: impl FnOnce(&mut Link) -> Result<(), Trouble>,
    ) -> io::Result<()> {
        let (epoch, mut link) = self.take()?;
        self.lock().ledger.begin_write();
        let done = match work(&mut link) {
            Ok(()) => Ok(()),
            Err(Trouble::Refused(error)) => Err(error),
            // This write never ends, so that no flush covers it and it stays at stake.
            Err(Trouble::Broken(error)) => return self.note_break(epoch, &error),
        };
        self.lock().ledger.end_write();
        self.put_back(epoch, link);
        done
    }

    /// Does `work`, which flushes.
    pub(super) fn flush(
        &self,
        work: &mut dyn FnMut(&mut Link) -> Result<(), Trouble>,
    ) -> io::Result<()> {
        let covered = self.lock().ledger.begin_flush();
        let flushed = self.ask(work);
        let mut state = self.lock();
        match &flushed {
            Ok(()) => state.ledger.end_flush(covered),
            Err(error) => {
                // What is durable is not known from here on, and no later flush would tell.
                let why = format!("a flush has failed ({error}); open the disk again");
                state.lost.get_or_insert(why);
            }
        }
        flushed
    }

    /// Takes a connection, once one is free; makes all of them anew where one is broken.
    fn take(&self) -> io::Result<(u64, Link)> {
        let mut state = self.lock();
        let mut found_dead = 0;
        loop {
            if let Some(why) = &state.lost {
                return Err(io::Error::other(why.clone()));
            }
            if state.broken && !state.connecting {
                state = self.reconnect(state)?;
            } else if let Some(link) = state.free.pop() {
                if link.is_idle() {
                    return Ok((state.epoch, link));
                }
                let epoch = state.epoch;
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                drop(state);
                self.note_break(epoch, &error)?;
                found_dead += 1;
                if found_dead == MAX_TRIES {
                    return Err(error);
                }
                state = self.lock();
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn put_back(&self, epoch: u64, link: Link) {
        let mut state = self.lock();
        if state.epoch == epoch && !state.broken {
            state.free.push(link);
            self.changed.notify_one();
        }
    }

    /// A connection of `epoch` has broken.
    ///
    /// # Errors
    ///
    /// If the disk is lost by that.
    fn note_break(&self, epoch: u64, error: &io::Error) -> io::Result<()> {
        let mut state = self.lock();
        if state.epoch == epoch {
            state.broken = true;
            state.free.clear();
        }
        if state.lost.is_none() && state.ledger.at_stake() {
            let why = "the connection broke while writes were not flushed";
            state.lost = Some(format!("{why} ({error}); what is durable of them is not known"));
        }
        self.changed.notify_all();
        match &state.lost {
            Some(why) => Err(io::Error::other(why.clone())),
            None => Ok(()),
        }
    }

    /// Makes all connections anew.
    fn reconnect<'p>(
        &'p self,
        mut state: MutexGuard<'p, State>,
    ) -> io::Result<MutexGuard<'p, State>> {
        state.connecting = true;
        drop(state);
        let connected = self.connect_again();
        let mut state = self.lock();
        state.connecting = false;
        self.changed.notify_all();
        state.free = connected?;
        state.epoch += 1;
        state.broken = false;
        Ok(state)
    }

    /// Connects to a server that may be away for a while.
    fn connect_again(&self) -> io::Result<Vec<Link>> {
        let begun = Instant::now();
        loop {
            match connect_all(&self.origin, self.access) {
                Ok((links, offer)) if offer == self.offer => return Ok(links),
                Ok(_) => return Err(io::Error::other("the server came back with another disk")),
                Err(error) if begun.elapsed() > self.origin.patience.absence => return Err(error),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes as many connections as the server keeps in step.
fn connect_all(origin: &Origin, access: Access) -> io::Result<(Vec<Link>, Offer)> {
    let (link, offer) = shake(origin, access)?;
    let mut links = vec![link];
    while offer.can_multi && links.len() < MAX_LINKS {
        // A server that takes no more serves by those that it has.
        let Ok((link, again)) = shake(origin, access) else { break };
        if again != offer {
            return Err(io::Error::other("the server shows another disk on each connection"));
        }
        links.push(link);
    }
    Ok((links, offer))
}
