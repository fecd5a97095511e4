//! All that CI runs, step by step, each with the time it took.
//!
//! A failed step does not keep the later ones from running: one run shows all that is wrong. The
//! last line of the output is the count, `N passed, N failed`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::process::{cargo, run as run_command};
use crate::{campaign, fuzz, loom, tidy, tools};

/// What `cargo xtask test` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only this step; may be repeated
    #[arg(long = "step", value_name = "NAME")]
    steps: Vec<String>,
    /// List the steps, and run none
    #[arg(long)]
    list: bool,
}

/// A step: its name, what it shows, and how.
struct Step {
    name: &'static str,
    shows: &'static str,
    run: fn() -> Result<()>,
}

/// The steps in the order they run: what fails soonest comes first.
const STEPS: &[Step] = &[
    Step { name: "fmt", shows: "the code is formatted", run: fmt },
    Step { name: "tidy", shows: "what no compiler checks", run: tidy::run },
    Step { name: "clippy", shows: "no lint is broken", run: clippy },
    Step { name: "docs", shows: "the documentation has no warning", run: docs },
    Step { name: "tests", shows: "all tests pass", run: tests },
    Step { name: "release-tests", shows: "all tests pass as released", run: release_tests },
    Step { name: "loom", shows: "no interleaving breaks a model", run: loom::all },
    Step { name: "sim", shows: "no crash image breaks a promise", run: campaign::sim_bounded },
    Step {
        name: "mutants",
        shows: "the crash rig finds every planted bug",
        run: campaign::mutants_bounded,
    },
    Step { name: "kill", shows: "no kill loses a mark", run: campaign::kill_bounded },
    Step {
        name: "power-cut",
        shows: "no power cut loses a mark",
        run: campaign::power_cut_bounded,
    },
    Step {
        name: "differential",
        shows: "overlays are as qcow2 is",
        run: campaign::differential_bounded,
    },
    Step { name: "fuzz", shows: "a short fuzzing run finds nothing", run: fuzz_bounded },
    Step {
        name: "bench",
        shows: "calls, syncs and memory meet their goals",
        run: campaign::bench_bounded,
    },
];

fn fmt() -> Result<()> {
    run_command(&mut cargo(["fmt", "--all", "--check"]))?;
    run_command(&mut cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
}

fn clippy() -> Result<()> {
    run_command(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))
}

fn docs() -> Result<()> {
    run_command(cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))
}

fn tests() -> Result<()> {
    run_command(&mut cargo(["test", "--workspace", "--no-fail-fast"]))
}

/// The same tests without debug assertions: whatever held only thanks to one fails here.
fn release_tests() -> Result<()> {
    run_command(&mut cargo(["test", "--workspace", "--no-fail-fast", "--release"]))
}

/// By the same draws each time, so that the gate is firm; `cargo xtask fuzz` draws fresh ones.
fn fuzz_bounded() -> Result<()> {
    fuzz::smoke(1)
}

/// Runs the steps asked for, all by default; the exit code says whether all passed.
///
/// # Errors
///
/// If no step has such a name, or a tool is missing and cannot be installed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        for step in STEPS {
            println!("{:<16}{}", step.name, step.shows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&options.steps)?;
    tools::ensure()?;
    let outcomes: Vec<Outcome> = chosen.into_iter().map(Outcome::of).collect();
    Ok(report(&outcomes))
}

/// The steps with these names in the order of the table; all if there are no names.
fn choose(names: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("no step is named '{unknown}'; see --list");
    }
    let is_chosen = |step: &&Step| names.is_empty() || names.iter().any(|name| name == step.name);
    Ok(STEPS.iter().filter(is_chosen).collect())
}

/// How a step went.
struct Outcome {
    step: &'static Step,
    took: Duration,
    passed: bool,
}

impl Outcome {
    /// Runs the step.
    fn of(step: &'static Step) -> Self {
        eprintln!("\n== {}: {}", step.name, step.shows);
        let start = Instant::now();
        let result = (step.run)();
        let took = start.elapsed();
        if let Err(error) = &result {
            eprintln!("xtask: {error:#}");
        }
        let outcome = Self { step, took, passed: result.is_ok() };
        eprintln!("== {}", outcome.line());
        outcome
    }

    fn line(&self) -> String {
        let verdict = if self.passed { "passed" } else { "FAILED" };
        format!("{:<16}{verdict}{:>9.1} s", self.step.name, self.took.as_secs_f64())
    }
}

/// Shows how all went. The count is the very last line, where programs look for it.
fn report(outcomes: &[Outcome]) -> ExitCode {
    println!();
    for outcome in outcomes {
        println!("{}", outcome.line());
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let failed = outcomes.len() - passed;
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::{Outcome, STEPS, Step, choose, report};

    #[test]
    fn steps_are_chosen_by_name_in_the_order_of_the_table() {
        let names = ["docs", "fmt"].map(str::to_owned);
        let chosen: Vec<&str> = choose(&names).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(chosen, ["fmt", "docs"]);
        assert_eq!(choose(&[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn an_unknown_step_is_an_error_not_an_empty_run() {
        assert!(choose(&["tests ".to_owned()]).is_err());
    }

    #[test]
    fn a_failed_step_fails_the_run_and_not_the_steps_after_it() {
        static FAILS: Step =
            Step { name: "fails", shows: "nothing", run: || anyhow::bail!("on purpose") };
        static PASSES: Step = Step { name: "passes", shows: "nothing", run: || Ok(()) };
        let outcomes = [&FAILS, &PASSES].map(Outcome::of);
        assert_eq!(outcomes.each_ref().map(|outcome| outcome.passed), [false, true]);
        assert_eq!(report(&outcomes), ExitCode::FAILURE);
        assert_eq!(report(&outcomes[1..]), ExitCode::SUCCESS);
    }
}
