//! `qbm compare`: whether two disks hold the same, with the lines and exit codes of qemu-img.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use futures_executor::block_on;
use qbm_core::copy::Progress;
use qbm_core::{Access, Buffer, ByteRange, Disk};

use crate::disk::{DiskFormat, OpenDisk};
use crate::open::{FileDirectory, GateArgs};
use crate::progress::Percent;

/// Bytes that are compared at a time.
const WINDOW: u64 = 1 << 20;
/// Differences are told to this many bytes.
const SECTOR: usize = 512;

/// Compare two disks
///
/// Exit status: 0 they are identical, 1 they differ, 2 or more the comparison failed.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The one
    first: PathBuf,
    /// The other
    second: PathBuf,
    /// The format of the first
    #[arg(short = 'f', value_enum, value_name = "FORMAT", default_value = "qbm")]
    first_format: DiskFormat,
    /// The format of the second
    #[arg(short = 'F', value_enum, value_name = "FORMAT", default_value = "qbm")]
    second_format: DiskFormat,
    /// Tell also a different size, and what is a hole in one and data in the other
    #[arg(short)]
    strict: bool,
    /// Show how far it is
    #[arg(short = 'p', conflicts_with = "quiet")]
    progress: bool,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// Read although a program has a disk open
    #[arg(short = 'U', long)]
    force_share: bool,
    /// How they are cached, as qemu-img has it
    #[arg(short = 'T', value_name = "CACHE", hide = true)]
    _cache: Option<String>,
    #[command(flatten)]
    gate: GateArgs,
}

/// A disk to read.
type FileDisk<'a> = Disk<'a, FileDirectory>;

/// Runs the command.
///
/// # Errors
///
/// None: a comparison that fails is exit status 2.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    match compare(args) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => {
            eprintln!("qbm: {error:#}");
            Ok(ExitCode::from(2))
        }
    }
}

fn compare(args: &CompareArgs) -> anyhow::Result<bool> {
    let open = |path: &Path, format| {
        OpenDisk::open(&args.gate, (path, format), Access::Read, args.force_share)
    };
    let first = open(&args.first, args.first_format)?;
    let second = open(&args.second, args.second_format)?;
    let mut percent = Percent::new(args.progress);
    let found = first_finding(args, (first.disk(), second.disk()), &mut percent)?;
    percent.finish();
    if !args.quiet {
        println!("{}", found.as_deref().unwrap_or("Images are identical."));
    }
    Ok(found.is_none())
}

/// In what the two differ, if they do.
fn first_finding(
    args: &CompareArgs,
    (first, second): (FileDisk<'_>, FileDisk<'_>),
    percent: &mut Percent,
) -> anyhow::Result<Option<String>> {
    let (small, large) =
        if first.size() <= second.size() { (first, second) } else { (second, first) };
    if small.size() != large.size() {
        if args.strict {
            return Ok(Some("Strict mode: Image size mismatch!".to_owned()));
        }
        if !args.quiet {
            println!("Warning: Image size mismatch!");
        }
    }
    let total = large.size();
    let mut offset = 0;
    while offset < total {
        let rest = ByteRange::new(offset, total - offset);
        let (ours, theirs) = (block_on(small.extent(rest))?, block_on(large.extent(rest))?);
        if args.strict && ours.data != theirs.data {
            return Ok(Some(format!("Strict mode: Offset {offset} block status mismatch!")));
        }
        let end = offset + ours.length.min(theirs.length);
        let may_differ = ours.data || theirs.data;
        if may_differ && let Some(place) = first_difference(small, large, rest.clip(end))? {
            return Ok(Some(format!("Content mismatch at offset {place}!")));
        }
        offset = end;
        percent.show(Progress { done: offset, total });
    }
    Ok(None)
}

/// The sector of `range` from which on the two differ, as its offset.
fn first_difference(
    a: FileDisk<'_>,
    b: FileDisk<'_>,
    range: ByteRange,
) -> anyhow::Result<Option<u64>> {
    let whole = usize::try_from(WINDOW)?;
    let (mut ours, mut theirs) = (Buffer::zeroed(whole), Buffer::zeroed(whole));
    let mut offset = range.start();
    while offset < range.end() {
        let length = WINDOW.min(range.end() - offset);
        let part = 0..usize::try_from(length)?;
        ours = block_on(a.read(offset, ours.narrow(part.clone())))?;
        theirs = block_on(b.read(offset, theirs.narrow(part)))?;
        let differs = |(a, b): (&[u8], &[u8])| a != b;
        if *ours != *theirs
            && let Some(sector) = ours.chunks(SECTOR).zip(theirs.chunks(SECTOR)).position(differs)
        {
            return Ok(Some(offset + (sector * SECTOR) as u64));
        }
        offset += length;
        (ours, theirs) = (ours.widen(), theirs.widen());
    }
    Ok(None)
}
