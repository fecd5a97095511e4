//! `qbm convert`: copies a disk into another format, with the options of `qemu-img convert`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use qbm_core::copy::{Copying, Writing};
use qbm_core::units::MAX_SIZE;
use qbm_core::{Access, ByteRange};

use crate::disk::{DiskFormat, OpenDisk};
use crate::open::{GateArgs, Tuning};
use crate::progress::Percent;
use crate::size;
use crate::target::{GRAIN, Target};

/// The most bytes of zeroes that can be asked for before they are left out.
const MOST_SPARSE: u64 = 16 << 20;

/// Copy a disk into another format
///
/// Holes and zeroes stay holes. The new disk has its name once all of it is durable: a conversion that
/// fails leaves what was there.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qbm convert vm.qbm copy.raw                     the disk of an image, and of all that is behind it
  qbm convert -p -f raw -O qbm vm.raw copy.qbm    a raw disk as a new image, its data in copy.raw
  qbm convert -n -O raw vm.qbm /dev/vg0/vm        over a disk that is there")]
pub struct ConvertArgs {
    /// The disks to read, one after the other, and the disk to write
    #[arg(required = true, num_args = 2.., value_name = "DISK")]
    disks: Vec<PathBuf>,
    /// The format of the disks to read
    #[arg(short = 'f', value_enum, value_name = "FORMAT", default_value = "qbm")]
    format: DiskFormat,
    /// The format of the disk to write
    #[arg(short = 'O', value_enum, value_name = "FORMAT", default_value = "raw")]
    output_format: DiskFormat,
    /// Write over a disk that is there
    #[arg(short = 'n')]
    no_create: bool,
    /// Leave out zeroes from so many bytes on; 0 leaves nothing out and takes space for all
    #[arg(short = 'S', value_name = "SIZE", value_parser = sparse)]
    sparse: Option<usize>,
    /// With -n: the disk reads as zeroes already
    #[arg(long, requires = "no_create")]
    target_is_zero: bool,
    /// Show how far it is
    #[arg(short = 'p')]
    progress: bool,
    /// Read although a program has the disk open
    #[arg(short = 'U', long)]
    force_share: bool,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    _tuning: Tuning,
}

fn sparse(text: &str) -> Result<usize, String> {
    let size = size::parse(text).map_err(|error| error.to_string())?;
    if size % 512 != 0 || size > MOST_SPARSE {
        return Err(format!("not a multiple of 512 up to {MOST_SPARSE}"));
    }
    Ok(usize::try_from(size).expect("at most 16 MiB"))
}

/// Runs the command.
///
/// # Errors
///
/// Why the disk was not copied.
pub fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let (target, sources) = args.disks.split_last().expect("there are two");
    let open =
        |path| OpenDisk::open(&args.gate, (path, args.format), Access::Read, args.force_share);
    let sources: Vec<OpenDisk> = sources.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    let sizes = sources.iter().map(|source| source.disk().size());
    let size = sizes.reduce(u64::saturating_add).expect("there is one");
    if size > MAX_SIZE {
        bail!("{}: the disk would be too large", target.display());
    }
    let place = (target.as_path(), args.output_format);
    let target = match args.no_create {
        true => Target::open(&args.gate, place, size),
        false => Target::create(&args.gate, place, size),
    }?;
    let full = args.sparse == Some(0);
    let writing =
        if args.target_is_zero && !full { Writing::ToEmpty } else { target.writing(full) };
    let grain = args.sparse.filter(|_| !full).unwrap_or(GRAIN);
    let mut to = 0;
    let mut parts = Vec::new();
    for source in &sources {
        let from = ByteRange::new(0, source.disk().size());
        parts.push((source.disk(), Copying { from, to, writing, grain, above: None }));
        to += from.length();
    }
    let mut percent = Percent::new(args.progress);
    let filled = target.fill(&parts, &mut |at| percent.show(at));
    target.finish(filled)?;
    percent.finish();
    Ok(ExitCode::SUCCESS)
}
