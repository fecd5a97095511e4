//! What threads share memory through, in one place, so that a model checker can take its place.
//!
//! The rest of the crate takes its atomics and locks from here. In a normal build they are other
//! people's, unchanged. With `--cfg loom` they are loom's, which tries every order in which the
//! threads of a model can come; what loom lacks is built on what it has, in `stand_in`.
//! `Arc` stays the standard one in both, where its count decides nothing but when memory is freed;
//! where it decides more, and in an [`ArcSwap`], it is a [`CountedArc`].

#[cfg(loom)]
mod atomics;
#[cfg(loom)]
mod stand_in;

#[cfg(not(loom))]
pub(crate) use {
    arc_swap::{ArcSwap, Guard},
    futures_util::lock::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard},
    std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
    std::sync::{Arc as CountedArc, Mutex, MutexGuard, OnceLock},
};

#[cfg(loom)]
pub(crate) use {
    atomics::{AtomicBool, AtomicU64, Ordering},
    loom::sync::atomic::fence,
    loom::sync::{Arc as CountedArc, Mutex, MutexGuard},
    stand_in::{ArcSwap, AsyncMutex, AsyncMutexGuard, Guard, OnceLock},
};
