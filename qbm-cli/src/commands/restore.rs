//! `qbm restore`: puts a point back, as a raw disk or over an image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures_executor::block_on;
use qbm_core::backup::{self, Restored};
use qbm_core::copy::Writing;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Directory, Disk, Image, Lock, Storage};

use super::points::PointName;
use crate::disk::{DiskFormat, OpenDisk};
use crate::open::{FileDirectory, FileImage, GateArgs, host};
use crate::output;
use crate::progress::Bar;

/// Put a point back, as a new raw disk or over one that is there
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The directory of the points, and after an @ the point: a name, an id or latest
    #[arg(value_name = "TARGET[@POINT]")]
    point: PointName,
    /// The raw disk to write; with --in-place also an image, a name ending in .qbm, which then marks
    /// what is written
    out: PathBuf,
    /// Write over a disk that is there
    #[arg(long)]
    in_place: bool,
    /// Write only what differs from what the disk holds
    #[arg(long, requires = "in_place")]
    changed_only: bool,
    #[command(flatten)]
    gate: GateArgs,
}

/// Runs the command.
///
/// # Errors
///
/// Why the disk is not restored. With `--in-place` it may then hold a mixture.
pub fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let (directory, _, entry) = args.point.find(&args.gate)?;
    let options = OpenOptions::new(Access::Read);
    let point = block_on(Image::open(directory, &entry.descriptor(), options, host()))?;
    let restored = match (args.in_place, args.out.extension().is_some_and(|end| end == "qbm")) {
        (false, _) => to_new(args, &point),
        (true, false) => over(args, &point, DiskFormat::Raw),
        (true, true) => over(args, &point, DiskFormat::Qbm),
    }?;
    println!(
        "restored {} of {}, {} written",
        output::bytes(restored.size),
        entry.name,
        output::bytes(restored.written)
    );
    Ok(ExitCode::SUCCESS)
}

fn to_new(args: &RestoreArgs, point: &FileImage) -> anyhow::Result<Restored> {
    let (directory, name) = args.gate.place(&args.out)?;
    let file = match block_on(directory.create(&name)) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{}: it exists; --in-place writes over it", args.out.display())
        }
        created => created.with_context(|| args.out.display().to_string())?,
    };
    let written = (|| {
        block_on(file.lock(Lock::Write))?;
        block_on(file.set_len(point.size()))?;
        let disk = Disk::File { name: &name, file: &file, size: point.size() };
        let restored = copy(point, disk, Writing::ToEmpty)?;
        block_on(directory.sync())?;
        Ok(restored)
    })();
    if written.is_err() {
        // Best effort: half a disk is of no use to anybody.
        let _removed = block_on(directory.remove(&name));
    }
    written
}

fn over(args: &RestoreArgs, point: &FileImage, format: DiskFormat) -> anyhow::Result<Restored> {
    let there = OpenDisk::open(&args.gate, (&args.out, format), Access::Write, false)?;
    let restored = fits(args, point, there.disk().size())
        .and_then(|()| copy(point, there.disk(), writing(args)));
    let closed = there.close();
    let restored = restored?;
    closed?;
    Ok(restored)
}

fn writing(args: &RestoreArgs) -> Writing {
    if args.changed_only { Writing::Changed } else { Writing::All }
}

fn fits(args: &RestoreArgs, point: &FileImage, size: u64) -> anyhow::Result<()> {
    if size != point.size() {
        let (there, needed) = (output::bytes(size), output::bytes(point.size()));
        bail!("{}: it has {there}, and the point {needed}; resize it first", args.out.display());
    }
    Ok(())
}

fn copy(
    point: &FileImage,
    sink: Disk<'_, FileDirectory>,
    writing: Writing,
) -> anyhow::Result<Restored> {
    let mut bar = Bar::new("restore");
    Ok(block_on(backup::restore(point, sink, writing, &mut |progress| bar.show(progress)))?)
}
