//! The planted bugs, each of which its model must find.
//!
//! A model that finds something ends in a panic between threads that are not real ones, which may
//! take the process along. So each bug has a process of its own: this test program once more.

use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mutants::{Mutant, plant};

/// In the environment of the process that looks for one bug: its name.
const PLANTED: &str = "QBM_PLANTED";

/// What such a process says where the model has found nothing.
const SURVIVES: &str = "no interleaving fails";

/// Looks for each of `planted` with the model `test`.
pub(super) fn hunt_all(test: &str, planted: &[Mutant]) {
    planted.iter().for_each(|mutant| hunt(test, *mutant));
}

/// Explores with the bug that the environment names, if it names one; this does not return then.
pub(super) fn explore_planted(explore: impl FnOnce() -> u64) {
    let Some(name) = std::env::var_os(PLANTED) else { return };
    let all = Mutant::ALL.iter().chain(Mutant::ALLOCATION).chain(Mutant::RACES);
    plant(all.copied().find(|mutant| *name == *format!("{mutant:?}")));
    tell_the_first_panic();
    let count = explore();
    panic!("{SURVIVES}: {count} interleavings");
}

/// Looks for `mutant` in a process of its own, which must fail.
fn hunt(test: &str, mutant: Mutant) {
    let program = std::env::current_exe().expect("this program has a name");
    let mut search = Command::new(program);
    search.args([test, "--exact", "--nocapture"]).env(PLANTED, format!("{mutant:?}"));
    let output = search.output().expect("this program can be started again");
    let said = String::from_utf8_lossy(&output.stderr);
    let finding = said.lines().find_map(|line| line.strip_prefix("finding: "));
    // Not a panic: a thread that had no room left, say. That is no finding either.
    let finding = finding.ok_or_else(|| said.trim());
    println!("{test}: planted {mutant:?}: {}", finding.unwrap_or_else(|said| said));
    let found = !output.status.success() && finding.is_ok_and(|what| !what.contains(SURVIVES));
    assert!(found, "{mutant:?} survives");
}

/// Prints one line for the first panic; those that follow from it say nothing.
fn tell_the_first_panic() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|panic| {
        if !TOLD.swap(true, Ordering::Relaxed) {
            let what = panic.payload_as_str().unwrap_or("a panic");
            let line = what.lines().next().unwrap_or_default();
            // Best effort: without this line the bug counts as not found.
            let _told = writeln!(std::io::stderr(), "finding: {line}");
        }
    }));
}
