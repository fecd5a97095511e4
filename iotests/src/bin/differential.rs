//! `differential COUNT`: random sequences of steps on overlays, beside qcow2 through QEMU's programs.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use iotests::{differential, rounds};

fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
    if count == 0 {
        eprintln!("usage: differential COUNT");
        return ExitCode::FAILURE;
    }
    let (mut sequences, mut steps) = (0, 0);
    rounds(count, |seed| {
        steps += differential::sequence(seed);
        sequences += 1;
    });
    println!("{sequences} sequences, {steps} steps that succeeded, no difference");
    ExitCode::SUCCESS
}
