//! Campaigns: the crash rig, its planted bugs, kills and power cuts, as long as is wanted.

use anyhow::Result;
use clap::Args;

use crate::built::{Engine, build, program};
use crate::process::{cargo, run};
use crate::{ordering_core, tools};

/// What `cargo xtask sim` takes.
#[derive(Args)]
pub(crate) struct SimOptions {
    /// Stop after so many crash images
    #[arg(long, default_value_t = 1_000_000)]
    images: u64,
    /// Stop after so many minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Which cases: plain, or wide, which have jobs and bitmaps in memory too
    #[arg(long, default_value = "plain")]
    family: String,
}

/// What `cargo xtask kill` and `cargo xtask power-cut` take.
#[derive(Args)]
pub(crate) struct CountOptions {
    /// How often
    #[arg(long, default_value_t = 3000)]
    count: u32,
}

/// What `cargo xtask differential` takes.
#[derive(Args)]
pub(crate) struct DifferentialOptions {
    /// How many sequences
    #[arg(long, default_value_t = 2000)]
    sequences: u32,
}

/// What `cargo xtask mutants` takes.
#[derive(Args)]
pub(crate) struct MutantOptions {
    /// Change the source of the ordering core in every way that cargo-mutants knows, instead of
    /// planting the known bugs; takes hours
    #[arg(long)]
    source: bool,
    /// With --source, only the files whose paths have this in them
    #[arg(long, default_value = "", requires = "source")]
    file: String,
}

/// A mutant whose tests take longer waits for ever, and is found by that.
const SOURCE_MUTANT_SECONDS: &str = "150";

/// The version of cargo-mutants that is installed where there is none.
const CARGO_MUTANTS: &str = "27.1.0";

/// Crash images of the simulator, by fresh seeds unless `QBM_SEED` says otherwise.
pub(crate) fn sim(options: &SimOptions) -> Result<()> {
    let (images, minutes) = (options.images.to_string(), options.minutes.to_string());
    let family = &options.family;
    let arguments = ["--family", family, "--images", &images, "--minutes", &minutes];
    run(&mut program(Engine::Sound, "qbm-sim", arguments)?)
}

/// Kills of the real program: of writers, and of servers whose bitmaps are made persistent or not.
pub(crate) fn kill(options: &CountOptions) -> Result<()> {
    campaign("kill", options.count)?;
    campaign("kill-server", options.count)
}

/// Power cuts under the real program; as root.
pub(crate) fn power_cut(options: &CountOptions) -> Result<()> {
    campaign("power-cut", options.count)
}

/// Random sequences of steps on overlays, beside qcow2 through QEMU's programs.
pub(crate) fn differential(options: &DifferentialOptions) -> Result<()> {
    let count = options.sequences.to_string();
    run(&mut program(Engine::Sound, "differential", [&count])?)
}

/// The engine with each planted bug in turn, in a build of its own; or with each change that
/// cargo-mutants can make to the source of its ordering core.
pub(crate) fn mutants(options: &MutantOptions) -> Result<()> {
    if options.source {
        return source_mutants(options);
    }
    run(&mut program(Engine::Planted, "qbm-sim", ["--mutants"])?)
}

/// Changes of the ordering core, one at a time, each judged by all tests of the core and the simulator.
/// `.cargo/mutants.toml` says which are left out.
fn source_mutants(options: &MutantOptions) -> Result<()> {
    tools::ensure_cargo_subcommand("mutants", CARGO_MUTANTS)?;
    let mut command = cargo(["mutants", "--package", "qbm-core"]);
    command.args(["--output", "target/source-mutants", "--test-package", "qbm-core,qbm-sim"]);
    // That the tests pass without a mutant is for the gate to show.
    command.args(["--baseline", "skip", "--timeout", SOURCE_MUTANT_SECONDS]);
    let is_wanted = |path: &&&str| path.contains(&options.file);
    for path in ordering_core::FILES.iter().filter(is_wanted) {
        command.args(["--file", path]);
    }
    // Debug information is half of the time to link.
    command.env("CARGO_PROFILE_TEST_DEBUG", "none").env("CARGO_PROFILE_DEV_DEBUG", "none");
    run(command.args(["--", "--tests"]))
}

/// The same bugs, by the same cases each time; and what comes of such a finding.
pub(crate) fn mutants_bounded() -> Result<()> {
    run(program(Engine::Planted, "qbm-sim", ["--mutants"])?.env("QBM_SEED", "1"))?;
    let mut shrink = cargo(["test", "--quiet", "--release", "--workspace", "--test", "planted"]);
    run(Engine::Planted.within(&mut shrink))
}

/// The benches, which check their answers and what they count; times are only told.
pub(crate) fn bench() -> Result<()> {
    benches(&[])
}

/// The same with one round of each comparison, for the answers and what is counted.
pub(crate) fn bench_bounded() -> Result<()> {
    benches(&[("QBM_BENCH_ROUNDS", "1")])
}

fn benches(environment: &[(&str, &str)]) -> Result<()> {
    // It runs the program that lies beside it.
    build(Engine::Sound, "qbm")?;
    run(program(Engine::Sound, "benches", [])?.envs(environment.iter().copied()))
}

/// Every workload of up to three operations, on overlays of up to two, the power cut everywhere.
pub(crate) fn small() -> Result<()> {
    let enough = ["--small", "3", "--at-least-images", "220000"];
    run(&mut program(Engine::Sound, "qbm-sim", enough)?)
}

/// What CI runs of each: together a million crash images, in 20,000 cases at least.
pub(crate) fn sim_bounded() -> Result<()> {
    small()?;
    cases_bounded("plain", ("20000", "860000"))?;
    cases_bounded("wide", ("1500", "90000"))
}

/// So many cases of `family`, which have so many crash images at least: the same ones each time, so that
/// the gate is firm; `cargo xtask sim` draws fresh ones.
fn cases_bounded(family: &str, (cases, images): (&str, &str)) -> Result<()> {
    let most = ["--family", family, "--cases", cases, "--minutes", "10"];
    let enough = ["--at-least-cases", cases, "--at-least-images", images];
    let mut command = program(Engine::Sound, "qbm-sim", most)?;
    run(command.args(enough).env("QBM_SEED", "1"))
}

/// Fresh cases for a few minutes.
pub(crate) fn sim_for_a_while() -> Result<()> {
    for family in ["plain", "wide"] {
        sim(&SimOptions { images: u64::MAX, minutes: 3, family: family.to_owned() })?;
    }
    Ok(())
}

/// What CI runs of each: one in sixteen has an image of its own, and the others, 300 at least, an
/// overlay.
const CRASHES: u32 = 330;

/// What CI runs of each.
pub(crate) fn kill_bounded() -> Result<()> {
    kill(&CountOptions { count: CRASHES })
}

/// What CI runs of each.
pub(crate) fn power_cut_bounded() -> Result<()> {
    campaign("power-cut", CRASHES)
}

/// What CI runs of them.
pub(crate) fn differential_bounded() -> Result<()> {
    differential(&DifferentialOptions { sequences: 80 })
}

fn campaign(kind: &str, count: u32) -> Result<()> {
    run(&mut program(Engine::Sound, "campaign", [kind, &count.to_string()])?)
}
