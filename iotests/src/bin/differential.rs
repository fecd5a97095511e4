//! `differential COUNT`: random sequences of steps on overlays, beside qcow2 through QEMU's programs.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use iotests::{differential, rounds_at_once};

fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
    if count == 0 {
        eprintln!("usage: differential COUNT");
        return ExitCode::FAILURE;
    }
    let (sequences, steps) = (AtomicUsize::new(0), AtomicUsize::new(0));
    rounds_at_once(count, |seed| {
        steps.fetch_add(differential::sequence(seed), Ordering::Relaxed);
        sequences.fetch_add(1, Ordering::Relaxed);
    });
    let (sequences, steps) = (sequences.into_inner(), steps.into_inner());
    println!("{sequences} sequences, {steps} steps that succeeded, no difference");
    ExitCode::SUCCESS
}
