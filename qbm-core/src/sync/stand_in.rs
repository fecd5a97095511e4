//! For models only: what the crate shares memory through and loom lacks, in the same shape.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

use super::{AtomicBool, CountedArc, Mutex, Ordering};
use crate::track::wait::WaitList;

/// In place of `std::sync::OnceLock`: a load with Acquire sees what was there before the store.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    present: AtomicBool,
    turn: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            present: AtomicBool::new(false),
            turn: Mutex::new(()),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // The value is there as soon as it is made, but who may know that is for the flag to say.
        if self.present.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.value.get_or_init(make);
            self.present.store(true, Ordering::Release);
        }
        self.value.get().expect("made by now")
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.present.store(false, Ordering::Relaxed);
        self.value.take()
    }
}

/// In place of `arc_swap::ArcSwap`. Every guard is a reference that is counted, as it is there at
/// the latest once the value has been swapped.
#[derive(Debug)]
pub(crate) struct ArcSwap<T>(Mutex<CountedArc<T>>);

/// In place of `arc_swap::Guard`: what a load returns.
#[derive(Debug)]
pub(crate) struct Guard<T>(T);

impl<T> ArcSwap<T> {
    pub(crate) fn new(value: CountedArc<T>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn load(&self) -> Guard<CountedArc<T>> {
        Guard(CountedArc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(crate) fn swap(&self, value: CountedArc<T>) -> CountedArc<T> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, value)
    }
}

impl<T> Guard<T> {
    pub(crate) fn from_inner(inner: T) -> Self {
        Self(inner)
    }

    pub(crate) fn into_inner(guard: Self) -> T {
        guard.0
    }
}

impl<T> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// In place of `futures_util::lock::Mutex`.
#[derive(Debug, Default)]
pub(crate) struct AsyncMutex<T> {
    held: AtomicBool,
    waiting: WaitList,
    /// Locked by the holder only, so nobody ever waits here.
    value: std::sync::Mutex<T>,
}

impl<T> AsyncMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            held: AtomicBool::new(false),
            waiting: WaitList::default(),
            value: std::sync::Mutex::new(value),
        }
    }

    pub(crate) async fn lock(&self) -> AsyncMutexGuard<'_, T> {
        self.waiting.until(|| self.take()).await;
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        AsyncMutexGuard { mutex: self, value: Some(value) }
    }

    fn take(&self) -> Option<()> {
        let free = self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        free.ok().map(drop)
    }
}

/// In place of `futures_util::lock::MutexGuard`.
pub(crate) struct AsyncMutexGuard<'a, T> {
    mutex: &'a AsyncMutex<T>,
    /// `None` only while this is dropped.
    value: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Deref for AsyncMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("until it is dropped")
    }
}

impl<T> DerefMut for AsyncMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("until it is dropped")
    }
}

impl<T> Drop for AsyncMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.mutex.held.store(false, Ordering::Release);
        self.mutex.waiting.wake_all();
    }
}
