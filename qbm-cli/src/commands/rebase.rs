//! `qbm rebase`: another image goes behind an overlay.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use futures_executor::block_on;
use qbm_core::Access;
use qbm_core::descriptor::ImageRef;
use qbm_core::graph::{self, Onto};

use super::create::FormatArg;
use crate::chain::Behind;
use crate::open::{FileImage, ImageArgs, Tuning, host};
use crate::progress::Percent;

/// Put another image behind an overlay, whose disk stays the same
///
/// What differs between the two is copied into the overlay first. No bitmap marks anything, since
/// nothing that it shows changes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qbm rebase -b base.raw -F raw top.qbm       without what is between the two
  qbm rebase -u -b moved.qbm -F qbm top.qbm   the image behind it has another name now
  qbm rebase -b '' top.qbm                    with nothing behind it, as `qbm stream` does")]
pub struct RebaseArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// The image to put behind it, by its name relative to the overlay; '' for none
    #[arg(short, long, value_name = "BACKING")]
    backing: String,
    /// What BACKING is
    #[arg(short = 'F', long, value_enum, value_name = "FORMAT")]
    backing_format: Option<FormatArg>,
    /// Only say so in the descriptor: BACKING has the same contents, and need not be there
    #[arg(short = 'u')]
    unchecked: bool,
    /// Show how far it is
    #[arg(short)]
    progress: bool,
    #[command(flatten)]
    _tuning: Tuning,
}

/// Runs the command.
///
/// # Errors
///
/// Why it was not done.
pub fn run(args: &RebaseArgs) -> anyhow::Result<ExitCode> {
    let backing = match (args.backing.as_str(), args.backing_format) {
        ("", _) => None,
        (file, Some(format)) => Some(ImageRef { file: file.to_owned(), format: format.into() }),
        (file, None) => bail!("{file}: backing format must be specified, with -F"),
    };
    if args.unchecked {
        let (directory, name) = args.image.place()?;
        block_on(graph::rebase_unchecked(&directory, &name, backing, &*host()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let top = args.image.open(Access::Write, false)?;
    let behind = backing.map(|backing| Behind::new(&args.image.image, backing));
    onto(args, top, behind)
}

fn onto(args: &RebaseArgs, top: FileImage, behind: Option<Behind>) -> anyhow::Result<ExitCode> {
    let disk = behind.as_ref().map(|behind| behind.open(&args.image.gate, Access::Read));
    let disk = match disk.transpose() {
        Ok(disk) => disk,
        Err(error) => {
            block_on(top.close())?;
            return Err(error);
        }
    };
    let onto = disk.as_ref().zip(behind);
    let onto = onto.map(|(disk, it)| Onto { backing: it.into_named(), disk: disk.disk() });
    let mut percent = Percent::new(args.progress);
    block_on(graph::rebase(top, onto, &mut |at| percent.show(at)))?;
    percent.finish();
    Ok(ExitCode::SUCCESS)
}
