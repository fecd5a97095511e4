//! Fuzzing: any bytes as input, for a while.
//!
//! The bodies of the targets are a library (`fuzz/bodies`) whose tests replay the saved inputs on
//! stable Rust; this chore looks for new ones. The engine wants compiler options that stable Rust
//! hides, hence `RUSTC_BOOTSTRAP`. No sanitizer is used: unsafe code is forbidden, and without one
//! the targets run several times as often. Nor are comparisons traced, which would take half of the
//! time: the saved inputs have the words that they would help to find.

use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::process::{cargo, output_of, root, run as run_command};
use crate::tools;

/// The version of cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";

/// How long all targets together run in `cargo xtask test`, on one processor.
const SMOKE_SECONDS: u32 = 140;

/// How often they run in all then. What their share of the time does not come to, the target that
/// runs most often has to add, so that a slow machine does not do less.
const SMOKE_EXECUTIONS: u64 = 5_000_000;

/// How long that may take at most.
const EXTRA_SECONDS: u32 = 120;

/// How targets are built.
const BUILD: [&str; 3] = ["--sanitizer", "none", "--no-trace-compares"];

/// What `cargo xtask fuzz` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Fuzz only this target; may be repeated
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// How long a target runs, and how often at most.
#[derive(Clone, Copy)]
struct Limit {
    seconds: u32,
    /// `None`: as often as it can.
    executions: Option<u64>,
    /// What its inputs are drawn from; 0: from the time.
    seed: u32,
}

/// Every target for its share of a fixed time, and then enough of the fastest.
///
/// # Errors
///
/// If a target finds something, all together run less than [`SMOKE_EXECUTIONS`] times, or the lock
/// file lags behind the manifests.
pub(crate) fn smoke(seed: u32) -> Result<()> {
    check_lock()?;
    let targets = all_targets()?;
    let count = u32::try_from(targets.len()).context("there are few targets")?;
    let seconds = (SMOKE_SECONDS / count.max(1)).max(1);
    let done = fuzz_all(&targets, Limit { seconds, executions: None, seed })?;
    let mut total = sum(&done);
    if let Some((fastest, _)) = done.iter().max_by_key(|(_, executions)| executions) {
        let missing = SMOKE_EXECUTIONS.saturating_sub(total);
        if missing > 0 {
            let limit = Limit { seconds: EXTRA_SECONDS, executions: Some(missing), seed };
            total += sum(&fuzz_all(std::slice::from_ref(fastest), limit)?);
        }
    }
    eprintln!("{total} executions of {count} targets: 0 findings");
    ensure!(total >= SMOKE_EXECUTIONS, "fewer than {SMOKE_EXECUTIONS} executions");
    Ok(())
}

/// Fuzzes the targets asked for, all by default.
///
/// # Errors
///
/// If a target finds something; its output says how to replay it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let targets = if options.targets.is_empty() { all_targets()? } else { options.targets.clone() };
    let limit = Limit { seconds: options.seconds, executions: None, seed: 0 };
    let done = fuzz_all(&targets, limit)?;
    eprintln!("{} executions of {} targets: 0 findings", sum(&done), done.len());
    Ok(())
}

fn sum(done: &[(String, u64)]) -> u64 {
    done.iter().map(|(_, executions)| executions).sum()
}

/// Fuzzes `targets`, as many at a time as there are processors; returns how often each ran.
fn fuzz_all(targets: &[String], limit: Limit) -> Result<Vec<(String, u64)>> {
    tools::ensure_cargo_subcommand("fuzz", CARGO_FUZZ)?;
    run_command(fuzz_command("build").args(BUILD))?;
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let executions = fuzz(target, limit);
            if let Ok(executions) = &executions {
                eprintln!("{target:<16}{executions:>12} executions");
            }
            let executions = executions.with_context(|| format!("fuzz target '{target}'"));
            let mut done = done.lock().expect("no worker panics");
            done.push(executions.map(|executions| (target.clone(), executions)));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    done.into_inner()?.into_iter().collect()
}

/// Checks that the targets' lock file, which is not the workspace's, is up to date as committed.
fn check_lock() -> Result<()> {
    let mut metadata = cargo(["metadata", "--locked", "--format-version", "1"]);
    output_of(metadata.args(["--manifest-path", "fuzz/Cargo.toml"]))
        .context("fuzz/Cargo.lock lags behind: commit what `cargo fuzz build` makes of it")?;
    Ok(())
}

fn all_targets() -> Result<Vec<String>> {
    tools::ensure_cargo_subcommand("fuzz", CARGO_FUZZ)?;
    let listing = output_of(&mut cargo(["fuzz", "list"]))?;
    Ok(listing.lines().map(str::to_owned).collect())
}

fn fuzz_command(chore: &str) -> Command {
    let mut command = cargo(["fuzz", chore]);
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Fuzzes a target that is built; returns how often it ran.
fn fuzz(target: &str, limit: Limit) -> Result<u64> {
    // The engine keeps what it finds in the first folder, and only reads the second, the saved one.
    let found = root().join("fuzz/target/found").join(target);
    let saved = PathBuf::from("fuzz/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
    let mut command = fuzz_command("run");
    command.args(BUILD).arg(target).arg(found).arg(saved).args([
        "--",
        &format!("-max_total_time={}", limit.seconds),
        &format!("-runs={}", limit.executions.map_or("-1".to_owned(), |most| most.to_string())),
        &format!("-seed={}", limit.seed),
        "-print_final_stats=1",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-verbosity=0",
    ]);
    let output = command.output().context("cargo not started")?;
    // The engine says all on standard error.
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}\n{said}", output.status);
    }
    executions(&said).with_context(|| format!("it does not say how often it ran\n{said}"))
}

/// How often a target ran, by what the engine says at its end.
fn executions(said: &str) -> Option<u64> {
    let count = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    count?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::executions;

    #[test]
    fn executions_are_counted_by_what_the_engine_says() {
        let said = "Done\nstat::number_of_executed_units: 603604\nstat::peak_rss_mb: 40\n";
        assert_eq!(executions(said), Some(603_604));
        assert_eq!(executions("killed"), None);
    }
}
