//! The chores of the project, as `cargo xtask CHORE`.
//!
//! One file a chore. `cargo xtask test` is what CI runs: it installs what it needs and goes through
//! every step of the table in [`mod@test`]; whatever takes options is a chore of its own too.
#![forbid(unsafe_code)]

mod built;
mod campaign;
mod coverage;
mod fuzz;
mod loom;
mod marathon;
mod ordering_core;
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
    /// Fuzz every target for a while
    Fuzz(fuzz::Options),
    /// Crash the engine on the simulated medium at every step, and check what is recovered
    Sim(campaign::SimOptions),
    /// Plant each known bug in the engine, and see that the simulator finds it
    Mutants(campaign::MutantOptions),
    /// Measure what the tests reach: all of the ordering core, and most of the workspace
    Coverage,
    /// Explore the models of the engine in every interleaving of their threads
    Loom(loom::Options),
    /// Measure what tracking costs, beside a rival in the same run
    Bench,
    /// Run every rig in turn with fresh seeds, until one finds something or the time is over
    Campaign(marathon::Options),
    /// Kill the real program again and again, and check what is left
    Kill(campaign::CountOptions),
    /// Cut the power of a real file system under the real program, and check what is left
    PowerCut(campaign::CountOptions),
    /// Do the same to overlays and to qcow2 through QEMU's programs, and compare what is seen
    Differential(campaign::DifferentialOptions),
}

fn main() -> ExitCode {
    let done = match Chore::parse() {
        Chore::Test(options) => test::run(&options),
        Chore::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Chore::Fuzz(options) => fuzz::run(&options).map(|()| ExitCode::SUCCESS),
        Chore::Sim(options) => campaign::sim(&options).map(|()| ExitCode::SUCCESS),
        Chore::Mutants(options) => campaign::mutants(&options).map(|()| ExitCode::SUCCESS),
        Chore::Coverage => coverage::run().map(|()| ExitCode::SUCCESS),
        Chore::Loom(options) => loom::run(&options).map(|()| ExitCode::SUCCESS),
        Chore::Bench => campaign::bench().map(|()| ExitCode::SUCCESS),
        Chore::Campaign(options) => marathon::run(&options).map(|()| ExitCode::SUCCESS),
        Chore::Kill(options) => campaign::kill(&options).map(|()| ExitCode::SUCCESS),
        Chore::PowerCut(options) => campaign::power_cut(&options).map(|()| ExitCode::SUCCESS),
        Chore::Differential(options) => {
            campaign::differential(&options).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
