//! `qbm overlay`: a new top over an image.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use qbm_core::Granularity;
use qbm_core::descriptor::{Durability, ImageRef};

use super::create::{FormatArg, name_beside, over};
use crate::open::GateArgs;
use crate::size;

/// Put a new image over another one, which stays as it is from then on
///
/// Writes go to NEW, which shows IMAGE where nothing has been written yet. IMAGE must not be changed
/// any more, and is kept from being written to while NEW is open. Its dirty bitmaps stay with it, as
/// they are; NEW begins without any, so the first backup of NEW is a full one.
#[derive(Args, Debug)]
pub struct OverlayArgs {
    /// The descriptor to create
    new: PathBuf,
    /// The image to put it over
    image: PathBuf,
    /// What IMAGE is, which is never found out by looking at it
    #[arg(short = 'F', long, value_enum, value_name = "FORMAT", default_value = "qbm")]
    backing_format: FormatArg,
    /// What is copied from IMAGE at a time: a power of two, 512 to 2G
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = size::granularity)]
    cluster_size: Granularity,
    #[command(flatten)]
    gate: GateArgs,
}

/// Runs the command.
///
/// # Errors
///
/// Why the image was not created.
pub fn run(args: &OverlayArgs) -> anyhow::Result<ExitCode> {
    let file = name_beside(&args.new, &args.image)?;
    let backing = ImageRef { file, format: args.backing_format.into() };
    let how = (None, Durability::default());
    println!("{}", over(&args.gate, &args.new, (backing, args.cluster_size), how)?);
    Ok(ExitCode::SUCCESS)
}
