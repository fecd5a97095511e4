//! `qbm convert`: copies a disk into another format, with the options of `qemu-img convert`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use futures_executor::block_on;
use qbm_core::copy::{Copying, Writing};
use qbm_core::descriptor::ImageRef;
use qbm_core::image::{NewBitmap, Over};
use qbm_core::units::MAX_SIZE;
use qbm_core::{Access, ByteRange, Granularity};

use super::create::FormatArg;
use crate::chain::Behind;
use crate::disk::{CopyArgs, DiskFormat, OpenDisk};
use crate::open::Tuning;
use crate::progress::Percent;
use crate::size;
use crate::target::{Extras, GRAIN, Target};

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
  qbm convert -n -O raw vm.qbm /dev/vg0/vm        over a disk that is there
  qbm convert -O qbm -B base.raw -F raw --bitmaps top.qbm new.qbm    what base.raw does not have")]
pub struct ConvertArgs {
    /// The disks to read, one after the other, and the disk to write
    #[arg(required = true, num_args = 2.., value_name = "DISK")]
    disks: Vec<PathBuf>,
    /// Write over a disk that is there
    #[arg(short = 'n')]
    no_create: bool,
    /// Leave out zeroes from so many bytes on; 0 leaves nothing out and takes space for all
    #[arg(short = 'S', value_name = "SIZE", value_parser = sparse)]
    sparse: Option<usize>,
    /// With -n: the disk reads as zeroes already
    #[arg(long, requires = "no_create")]
    target_is_zero: bool,
    /// Put the new image over BACKING, by its name relative to the new image, and copy only what differs
    #[arg(
        short = 'B',
        long,
        value_name = "BACKING",
        requires = "backing_format",
        conflicts_with_all = ["no_create", "sparse"]
    )]
    backing: Option<String>,
    /// What BACKING is
    #[arg(short = 'F', long, value_enum, value_name = "FORMAT", requires = "backing")]
    backing_format: Option<FormatArg>,
    /// With -B: what is copied at a time
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = size::granularity)]
    cluster_size: Granularity,
    /// Copy its bitmaps too; they belong to no backup point there
    #[arg(long)]
    bitmaps: bool,
    /// Show how far it is
    #[arg(short = 'p')]
    progress: bool,
    #[command(flatten)]
    copy: CopyArgs,
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
    let sources: Vec<OpenDisk> =
        sources.iter().map(|path| args.copy.source(path)).collect::<Result<_, _>>()?;
    let sizes = sources.iter().map(|source| source.disk().size());
    let size = sizes.reduce(u64::saturating_add).expect("there is one");
    if size > MAX_SIZE {
        bail!("{}: the disk would be too large", target.display());
    }
    // Before anything is made: what it takes may not be there.
    let bitmaps = if args.bitmaps { bitmaps(args, &sources)? } else { Vec::new() };
    let backing = backing(args, target)?;
    let gate = &args.copy.gate;
    let place = (target.as_path(), args.copy.output_format);
    let target = match args.no_create {
        true => Target::open(gate, place, size),
        false => Target::create(gate, place, size),
    }?;
    let mut percent = Percent::new(args.progress);
    let filled = match backing {
        None => fill(args, &target, &sources, &mut percent).map(|()| None),
        Some((named, disk)) => {
            let (source, cluster) = (sources[0].disk(), args.cluster_size);
            let filled = target.fill_over(source, disk.disk(), cluster, &mut |at| percent.show(at));
            filled.map(|own| Some(Over { backing: named, cluster, own }))
        }
    };
    target.finish(filled.map(|over| Extras { over, bitmaps }))?;
    percent.finish();
    Ok(ExitCode::SUCCESS)
}

/// Copies `sources`, one after the other.
fn fill(
    args: &ConvertArgs,
    target: &Target,
    sources: &[OpenDisk],
    percent: &mut Percent,
) -> anyhow::Result<()> {
    let full = args.sparse == Some(0);
    let writing =
        if args.target_is_zero && !full { Writing::ToEmpty } else { target.writing(full) };
    let grain = args.sparse.filter(|_| !full).unwrap_or(GRAIN);
    let mut to = 0;
    let mut parts = Vec::new();
    for source in sources {
        let from = ByteRange::new(0, source.disk().size());
        parts.push((source.disk(), Copying { from, to, writing, grain, above: None }));
        to += from.length();
    }
    target.fill(&parts, &mut |at| percent.show(at))
}

/// What is to be behind the new image at `target`, and the same, open.
fn backing(args: &ConvertArgs, target: &Path) -> anyhow::Result<Option<(ImageRef, OpenDisk)>> {
    let Some((file, format)) = args.backing.clone().zip(args.backing_format) else {
        return Ok(None);
    };
    if args.copy.output_format != DiskFormat::Qbm {
        bail!("{}: nothing can be behind a raw disk; -O qbm", target.display());
    }
    if args.disks.len() > 2 {
        bail!("{}: several disks cannot be over one", target.display());
    }
    let behind = Behind::new(target, ImageRef { file, format: format.into() });
    let disk = behind.open(&args.copy.gate, Access::Read)?;
    Ok(Some((behind.into_named(), disk)))
}

/// The bitmaps of the one source.
fn bitmaps(args: &ConvertArgs, sources: &[OpenDisk]) -> anyhow::Result<Vec<NewBitmap>> {
    let [OpenDisk::Image(image)] = sources else {
        bail!("--bitmaps: they are those of one image; -f qbm");
    };
    if args.copy.output_format != DiskFormat::Qbm {
        bail!("--bitmaps: a raw disk has none; -O qbm");
    }
    let copies = block_on(image.bitmaps()).into_iter().map(|bitmap| {
        let marks = block_on(image.marks(&bitmap.name))?;
        Ok(NewBitmap { name: bitmap.name, disabled: bitmap.disabled, marks })
    });
    copies.collect()
}
