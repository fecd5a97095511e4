//! `qbm resize`: a disk of another size, and its bitmaps with it.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use futures_executor::block_on;
use qbm_core::{Access, ByteRange, Unmap};

use crate::open::{FileImage, ImageArgs, naming};
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
    /// Whether what is added takes space at once
    #[arg(long, value_enum, value_name = "MODE", default_value = "off")]
    preallocation: Preallocation,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preallocation {
    /// Not before it is written
    Off,
    /// Yes
    Falloc,
    /// Yes
    Full,
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
        Ok(new) => {
            let full = args.preallocation != Preallocation::Off;
            block_on(resize(&image, new, full)).map_err(naming(&args.image.image))
        }
        Err(error) => Err(error),
    };
    let closed = block_on(image.close());
    resized?;
    closed?;
    if !args.quiet {
        println!("Image resized.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the disk `size` bytes long; `full` if what is added is to have its space.
pub async fn resize(image: &FileImage, size: u64, full: bool) -> qbm_core::Result<()> {
    let old = image.size();
    image.resize(size).await?;
    if full && size > old {
        image.write_zeroes(ByteRange::new(old, size - old), Unmap::Forbidden).await?;
    }
    Ok(())
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
