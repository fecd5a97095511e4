//! `qbm resize`: a disk of another size, and its bitmaps with it.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures_executor::block_on;
use qbm_core::Access;

use crate::open::{ImageArgs, naming};
use crate::size;

/// Change the size of the disk
#[derive(Args, Debug)]
pub struct ResizeArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// The size, or with + or - in front how much is added or taken away
    #[arg(allow_hyphen_values = true)]
    size: String,
    /// Allow that the disk gets smaller, which deletes what is past the new end
    #[arg(long)]
    shrink: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Why the size is what it was.
pub fn run(args: &ResizeArgs) -> anyhow::Result<ExitCode> {
    let image = args.image.open(Access::Write, false)?;
    let old = image.size();
    let file = || args.image.image.display().to_string();
    let wanted = wanted(old, &args.size).with_context(file);
    let resized = match wanted {
        Ok(new) if new < old && !args.shrink => {
            let why = "this deletes what is past the new end; --shrink allows it";
            Err(anyhow::anyhow!(why).context(file()))
        }
        Ok(new) => block_on(image.resize(new)).map_err(naming(&args.image.image)),
        Err(error) => Err(error),
    };
    let closed = block_on(image.close());
    resized?;
    closed?;
    println!("Image resized.");
    Ok(ExitCode::SUCCESS)
}

fn wanted(old: u64, text: &str) -> anyhow::Result<u64> {
    let parse = |digits: &str| size::parse(digits).with_context(|| format!("'{text}'"));
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(more), _) => old.checked_add(parse(more)?).context("the disk would be too large"),
        (_, Some(less)) => match old.checked_sub(parse(less)?) {
            Some(new) => Ok(new),
            None => bail!("the disk has only {old} bytes"),
        },
        _ => parse(text),
    }
}
