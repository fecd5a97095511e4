//! Every rig in turn with fresh seeds, for as long as is wanted, until one finds something.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::{campaign, fuzz, loom, tools};

/// What `cargo xtask campaign` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Begin no rig after so many minutes; each runs once at least
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

/// A rig, and how to run it for some minutes.
struct Rig {
    name: &'static str,
    run: fn() -> Result<()>,
    /// Whether it draws something, so that it does other things the next time.
    draws: bool,
}

const RIGS: &[Rig] = &[
    Rig { name: "small workloads", run: campaign::small, draws: false },
    Rig { name: "models", run: loom::all, draws: false },
    Rig { name: "crash images", run: campaign::sim_for_a_while, draws: true },
    Rig { name: "kills", run: campaign::kill_bounded, draws: true },
    Rig { name: "power cuts", run: campaign::power_cut_bounded, draws: true },
    Rig { name: "beside qcow2", run: campaign::differential_bounded, draws: true },
    Rig { name: "fuzz targets", run: || fuzz::smoke(0), draws: true },
];

/// How often a rig ran, and how long.
#[derive(Clone, Copy, Default)]
struct Tally {
    rounds: u32,
    took: Duration,
}

/// Runs them, and prints what was run.
///
/// # Errors
///
/// The first finding. What the rig printed says how to see it again.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools::ensure()?;
    let begun = Instant::now();
    let end = Duration::from_secs(60 * options.minutes);
    let mut tallies = vec![Tally::default(); RIGS.len()];
    let mut outcome = Ok(());
    let mut round = 0;
    while outcome.is_ok() && (round == 0 || begun.elapsed() < end) {
        outcome = run_round(round, &mut tallies, || begun.elapsed() >= end);
        round += 1;
    }
    println!("\n{:<20}{:>8}{:>12}", "rig", "rounds", "minutes");
    for (rig, tally) in RIGS.iter().zip(&tallies) {
        let minutes = tally.took.as_secs_f64() / 60.0;
        println!("{:<20}{:>8}{minutes:>12.1}", rig.name, tally.rounds);
    }
    println!("{} findings", u8::from(outcome.is_err()));
    outcome
}

fn run_round(round: u32, tallies: &mut [Tally], is_over: impl Fn() -> bool) -> Result<()> {
    for (rig, tally) in RIGS.iter().zip(tallies) {
        if round > 0 && (is_over() || !rig.draws) {
            continue;
        }
        let begun = Instant::now();
        let outcome = (rig.run)();
        tally.took += begun.elapsed();
        tally.rounds += 1;
        outcome.with_context(|| format!("{}: a finding", rig.name))?;
    }
    Ok(())
}
