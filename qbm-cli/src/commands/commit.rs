//! `qbm commit`: what an overlay has goes down into an image behind it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures_executor::block_on;
use qbm_core::Access;
use qbm_core::graph::{self, CommitOptions};

use crate::chain::{self, Behind};
use crate::open::{ImageArgs, Tuning};
use crate::progress::Percent;

/// Put what an overlay has into the image behind it
///
/// The disk stays the same, and so do the bitmaps of the overlay; those of BASE mark what is written
/// there. A commit that is cut short can be done again. After it no image between the two is of use.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qbm commit top.qbm                into the image behind it; top.qbm is empty then
  qbm commit -b base.raw top.qbm    into the base of the chain; top.qbm stays as it is")]
pub struct CommitArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Put it into BASE, any image behind it, and leave it as it is
    #[arg(short, long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// Leave the overlay as it is; otherwise it is empty afterwards
    #[arg(short = 'd')]
    keep: bool,
    /// Merge its bitmaps into those of BASE, which gets those that it does not have
    #[arg(long)]
    merge_bitmaps: bool,
    /// Show how far it is
    #[arg(short)]
    progress: bool,
    #[command(flatten)]
    tuning: Tuning,
}

/// Runs the command.
///
/// # Errors
///
/// Why it was not done: all is then still in the overlay.
pub fn run(args: &CommitArgs) -> anyhow::Result<ExitCode> {
    let (gate, image) = (&args.image.gate, &args.image.image);
    let chain = chain::behind(gate, image)?;
    if chain.is_empty() {
        bail!("{}: Image does not have a backing file", image.display());
    }
    let depth = depth(args, &chain)?;
    // That all of it may be opened is found out here: what is behind it is locked by hand below.
    drop(args.image.open(Access::Read, false)?);
    let base = chain[depth - 1].open(gate, Access::Write)?;
    let mut percent = Percent::new(args.progress);
    let committed = args.image.open_over_held().and_then(|top| {
        let empty = !args.keep && args.base.is_none();
        let options = CommitOptions { depth, empty, merge_bitmaps: args.merge_bitmaps };
        let mut show = |at| percent.show(at);
        let committed = block_on(graph::commit(&top, base.disk(), &options, &mut show));
        let closed = block_on(top.close());
        committed?;
        Ok(closed?)
    });
    let closed = base.close();
    committed?;
    closed?;
    percent.finish();
    // Its line ends before the next one.
    drop(percent);
    if !args.tuning.quiet {
        println!("Image committed.");
    }
    Ok(ExitCode::SUCCESS)
}

/// How deep in `chain` it goes.
fn depth(args: &CommitArgs, chain: &[Behind]) -> anyhow::Result<usize> {
    let Some(base) = &args.base else { return Ok(1) };
    let found = chain.iter().position(|behind| behind.is(base)).with_context(|| {
        let (base, image) = (base.display(), args.image.image.display());
        format!("Did not find '{base}' in the backing chain of '{image}'")
    })?;
    Ok(1 + found)
}
