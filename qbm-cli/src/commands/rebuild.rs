//! `qbm rebuild`: the marks of a bitmap anew, by reading the disk.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use futures_executor::block_on;
use qbm_core::image::BitmapInfo;
use qbm_core::{Access, backup};
use serde_json::{Value, json};

use super::audit::{differing, info};
use crate::open::{FileImage, ImageArgs, host, naming};
use crate::output::{self, Output};

/// Read the disk, and mark what has changed since the last backup, and nothing else
///
/// A bitmap that is doubtful, since the disk was changed behind QBM's back or the bitmap was damaged,
/// is exact after that, and the next backup stores no more than what has changed. If it fails or is
/// killed, the bitmap is as it was.
#[derive(Args, Debug)]
pub struct RebuildArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// The directory of the points
    target: PathBuf,
    /// The bitmap to rebuild
    #[arg(long, value_name = "NAME", default_value = "backup")]
    bitmap: String,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// Runs the command.
///
/// # Errors
///
/// Why the bitmap is as it was.
pub fn run(args: &RebuildArgs) -> anyhow::Result<ExitCode> {
    let image = args.image.open(Access::Write, false)?;
    let rebuilt = rebuild(args, &image);
    let closed = block_on(image.close());
    let (before, after, name) = rebuilt?;
    closed?;
    match args.output {
        Output::Json => output::print_json(&to_json(args, &before, &after, &name)),
        Output::Human => {
            if let Some(doubt) = before.doubt {
                println!("It was doubtful ({}): {}", doubt.code(), doubt.sentence());
            }
            let (was, is) = (before.marked, after.marked);
            println!("{is} granules have changed since point {name}; {was} were marked.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The bitmap before and after, and the name of the point that it is relative to.
fn rebuild(
    args: &RebuildArgs,
    image: &FileImage,
) -> anyhow::Result<(BitmapInfo, BitmapInfo, String)> {
    let naming = naming(&args.image.image);
    let target = args.image.gate.directory(&args.target)?;
    let reference = block_on(backup::reference(image, &target, &args.bitmap, &host()));
    let reference = reference.map_err(&naming)?;
    let before = info(image, &args.bitmap).map_err(&naming)?;
    let look = async { differing(image, &reference, before.granularity, None) };
    block_on(image.rebuild(&args.bitmap, reference.point(), look)).map_err(&naming)?;
    let after = info(image, &args.bitmap).map_err(&naming)?;
    Ok((before, after, reference.name().to_owned()))
}

fn to_json(args: &RebuildArgs, before: &BitmapInfo, after: &BitmapInfo, point: &str) -> Value {
    let doubt = before.doubt;
    json!({
        "filename": args.image.image.display().to_string(),
        "bitmap": args.bitmap,
        "point": after.points[0].map(|id| id.to_string()),
        "name": point,
        "doubt-before": doubt.map(|doubt| json!({ "code": doubt.code(), "reason": doubt.sentence() })),
        "marked-before": before.marked,
        "marked": after.marked,
    })
}
