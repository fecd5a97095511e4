//! The signals that a server obeys.

use std::io;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use qbm_nbd::{Statistics, Stopper};

fn ours() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1].into_iter().collect()
}

/// Keeps the signals for [`watch`]. To be called before the first thread begins, since threads
/// inherit it.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn block() -> io::Result<()> {
    Ok(ours().thread_block()?)
}

/// Waits for signals on a thread of its own: stops the server at the first SIGTERM or SIGINT, and
/// tells the statistics at each SIGUSR1.
///
/// # Errors
///
/// If there are no more threads.
pub(super) fn watch(stopper: Stopper, statistics: Arc<Statistics>) -> io::Result<()> {
    let wait = move || {
        // It is asked for real signals, so an error cannot be.
        while let Ok(signal) = ours().wait() {
            if signal != Signal::SIGUSR1 {
                break;
            }
            eprintln!("{statistics}");
        }
        stopper.stop();
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}
