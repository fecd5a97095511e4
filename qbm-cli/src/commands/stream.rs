//! `qbm stream`: an overlay gets all that it shows, and nothing is behind it any more.

use std::process::ExitCode;

use clap::Args;
use futures_executor::block_on;
use qbm_core::Access;
use qbm_core::graph::{self, Onto};

use crate::open::{FileDirectory, ImageArgs};
use crate::progress::Percent;

/// Copy into an overlay what shows through it, so that nothing is behind it any more
///
/// What is zero is not copied. Cut short, it goes on from there the next time.
#[derive(Args, Debug)]
pub struct StreamArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Show how far it is
    #[arg(short)]
    progress: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Why it was not done.
pub fn run(args: &StreamArgs) -> anyhow::Result<ExitCode> {
    let top = args.image.open(Access::Write, false)?;
    let mut percent = Percent::new(args.progress);
    let nothing: Option<Onto<'_, FileDirectory>> = None;
    block_on(graph::rebase(top, nothing, &mut |at| percent.show(at)))?;
    percent.finish();
    Ok(ExitCode::SUCCESS)
}
