//! The chores of the project, as `cargo xtask CHORE`.
//!
//! One file a chore. `cargo xtask test` is what CI runs: it installs what it needs and goes through
//! every step of the table in [`mod@test`]; whatever takes options is a chore of its own too.
#![forbid(unsafe_code)]

mod fuzz;
mod process;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// The chores of the project
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Run all that CI runs, or one step of it
    Test(test::Options),
    /// Check what the compiler and clippy cannot
    Tidy,
    /// Fuzz the parsers and the bitmap for a while
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let done = match Chore::parse() {
        Chore::Test(options) => test::run(&options),
        Chore::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Chore::Fuzz(options) => fuzz::run(&options).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
