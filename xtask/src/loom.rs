//! Models of the engine: small programs over its real types, in every interleaving of their threads.
//!
//! They are unit tests of the core that exist only with `--cfg loom`, which also gives the core
//! loom's atomics and locks. Hence a build of their own, in a folder of its own.

use anyhow::Result;
use clap::Args;

use crate::process::{cargo, run as run_command};

/// What `cargo xtask loom` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Explore only the models whose names begin with this, such as `marks::two`
    #[arg(value_name = "MODEL", default_value = "")]
    model: String,
    /// Plant each bug that a model must find too, and see that the model fails
    #[arg(long)]
    mutants: bool,
}

/// The step of `cargo xtask test`: every model, and every bug planted for one.
pub(crate) fn all() -> Result<()> {
    run(&Options { model: String::new(), mutants: true })
}

/// Explores the models; each prints how many interleavings there were.
///
/// # Errors
///
/// If one of them fails in an interleaving, has fewer than its floor, or misses a planted bug.
pub(crate) fn run(options: &Options) -> Result<()> {
    let flags = if options.mutants { "--cfg loom --cfg qbm_mutants" } else { "--cfg loom" };
    let filter = format!("models::{}", options.model);
    let mut tests = cargo(["test", "--quiet", "--release", "--package", "qbm-core", "--lib"]);
    // At least two, since a lone test thread would not have the name of its test.
    tests.args([&filter, "--", "--nocapture", "--test-threads=2"]);
    run_command(tests.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", "target/loom"))
}
