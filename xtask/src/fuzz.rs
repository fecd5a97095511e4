//! Fuzzing: any bytes as input, for a while.
//!
//! The bodies of the targets are a library (`fuzz/bodies`) whose tests replay the saved inputs on
//! stable Rust; this chore looks for new ones. The engine wants compiler options that stable Rust
//! hides, hence `RUSTC_BOOTSTRAP`. No sanitizer is used: unsafe code is forbidden, and without one
//! the targets run several times as often.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::process::{cargo, output_of, root, run as run_command};
use crate::tools;

/// The version of cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";

/// How long each target runs in `cargo xtask test`.
const SMOKE_SECONDS: u32 = 20;

/// What `cargo xtask fuzz` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Fuzz only this target; may be repeated
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = SMOKE_SECONDS)]
    seconds: u32,
}

/// The step of `cargo xtask test`: every target for a short time.
pub(crate) fn smoke() -> Result<()> {
    run(&Options { targets: Vec::new(), seconds: SMOKE_SECONDS })
}

/// Fuzzes the targets asked for, all by default, one after the other.
///
/// # Errors
///
/// If a target finds something; its output says how to replay it.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools::ensure_cargo_subcommand("fuzz", CARGO_FUZZ)?;
    let targets = if options.targets.is_empty() { all_targets()? } else { options.targets.clone() };
    for target in targets {
        fuzz(&target, options.seconds).with_context(|| format!("fuzz target '{target}'"))?;
    }
    Ok(())
}

fn all_targets() -> Result<Vec<String>> {
    let listing = output_of(&mut cargo(["fuzz", "list"]))?;
    Ok(listing.lines().map(str::to_owned).collect())
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    // The engine keeps what it finds in the first folder, and only reads the second, the saved one.
    let found = root().join("fuzz/target/found").join(target);
    let saved = PathBuf::from("fuzz/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
    let mut command = cargo(["fuzz", "run", "--sanitizer", "none", target]);
    command.env("RUSTC_BOOTSTRAP", "1").arg(found).arg(saved).args([
        "--",
        &format!("-max_total_time={seconds}"),
        "-print_final_stats=1",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-verbosity=0",
    ]);
    run_command(&mut command)
}
