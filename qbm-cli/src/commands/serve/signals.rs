//! The signals that a server obeys.

use std::io;

use nix::sys::signal::{SigSet, Signal};

fn ours() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1].into_iter().collect()
}

/// Keeps the signals for [`wait`]. To be called before the first thread begins, since threads
/// inherit it.
///
/// # Errors
///
/// If the kernel refuses.
pub(in crate::commands) fn block() -> io::Result<()> {
    Ok(ours().thread_block()?)
}

/// Waits for the first SIGTERM or SIGINT, and calls `tell` at each SIGUSR1.
pub(in crate::commands) fn wait(tell: impl Fn()) {
    // It is asked for real signals, so an error cannot be.
    while let Ok(Signal::SIGUSR1) = ours().wait() {
        tell();
    }
}
