//! The rings of this process: one for each thread that uses them, as far as they go.
//!
//! A ring may be used by any thread, so they stay when their thread ends, for the next one, and are
//! shared once there are [`MAX_RINGS`]. Each costs a file descriptor.

use std::cell::OnceCell;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use crate::file::Files;
use crate::ring::Ring;

/// Rings of a process.
const MAX_RINGS: usize = 64;

/// How long to leave another thread's ring alone: less than most media take.
const PAUSE: Duration = Duration::from_micros(50);

pub(crate) type SharedRing = Arc<Mutex<Ring>>;

static RINGS: Mutex<Vec<SharedRing>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: OnceCell<SharedRing> = const { OnceCell::new() };
}

/// The ring of the calling thread.
///
/// # Errors
///
/// If there is no ring at all, and the kernel gives us none.
pub(crate) fn own() -> io::Result<SharedRing> {
    let found = OWN.try_with(|own| match own.get() {
        Some(ring) => Ok(Arc::clone(ring)),
        None => choose(&mut lock(&RINGS), Ring::new).inspect(|ring| {
            // It was empty just now.
            let _set = own.set(Arc::clone(ring));
        }),
    });
    // A thread that is ending has nowhere to remember it.
    found.unwrap_or_else(|_| choose(&mut lock(&RINGS), Ring::new))
}

/// One that no thread has, or a new one, or else the one that the fewest have.
fn choose(
    rings: &mut Vec<SharedRing>,
    make: impl FnOnce() -> io::Result<Ring>,
) -> io::Result<SharedRing> {
    let least = rings.iter().min_by_key(|ring| Arc::strong_count(ring)).map(Arc::clone);
    match least {
        // The pool's, and the clone.
        Some(ring) if Arc::strong_count(&ring) == 2 || rings.len() == MAX_RINGS => Ok(ring),
        least => match (make(), least) {
            (Ok(ring), _) => {
                let ring = Arc::new(Mutex::new(ring));
                rings.push(Arc::clone(&ring));
                Ok(ring)
            }
            (Err(_), Some(ring)) => Ok(ring),
            (Err(error), None) => Err(error),
        },
    }
}

/// Waits until no write of `file` is under way that began before the call.
pub(crate) fn finish(file: &Files) {
    if !file.has_writes() {
        return;
    }
    let rings = lock(&RINGS).clone();
    for ring in rings {
        while file.has_writes() {
            match ring.try_lock() {
                Ok(mut ring) => ring.finish(file),
                Err(TryLockError::Poisoned(error)) => error.into_inner().finish(file),
                Err(TryLockError::WouldBlock) => {
                    // Its thread waits for operations, and may for ever be quicker to wait again.
                    thread::sleep(PAUSE);
                    continue;
                }
            }
            break;
        }
    }
}

/// Locks, whatever a thread has panicked at.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse() -> io::Result<Ring> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn a_ring_is_used_again_shared_or_refused() {
        let mut rings = Vec::new();
        let refused = choose(&mut rings, refuse).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::PermissionDenied));
        let first = choose(&mut rings, Ring::new).unwrap();
        let shared = choose(&mut rings, refuse).unwrap();
        assert!(Arc::ptr_eq(&first, &shared), "the one ring there is");
        drop((first, shared));
        let mut held = Vec::new();
        for count in 1..=MAX_RINGS {
            held.push(choose(&mut rings, Ring::new).unwrap());
            assert_eq!(rings.len(), count, "a ring that no thread has is used first");
        }
        held.push(choose(&mut rings, Ring::new).unwrap());
        assert_eq!(rings.len(), MAX_RINGS, "and no more are made");
    }
}
