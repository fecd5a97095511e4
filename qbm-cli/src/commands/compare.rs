//! `qbm compare`: whether two disks hold the same, with the lines and exit codes of qemu-img.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use futures_executor::block_on;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, BlockStatus, Buffer, ByteRange, Lock, Storage};
use qbm_io_std::StdFile;

use crate::open::{FileImage, GateArgs};

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
    #[arg(short = 'f', value_enum)]
    first_format: Option<DiskFormat>,
    /// The format of the second
    #[arg(short = 'F', value_enum)]
    second_format: Option<DiskFormat>,
    /// Tell also a different size, and what is a hole in one and data in the other
    #[arg(short)]
    strict: bool,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    #[command(flatten)]
    gate: GateArgs,
}

/// How a disk is kept. It is never guessed from the contents, only from the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiskFormat {
    /// The bytes of the disk and nothing else
    Raw,
    /// A descriptor; what a name ending in .qbm stands for
    Qbm,
}

/// A disk to read.
enum Disk {
    Raw(StdFile, u64),
    Image(Box<FileImage>),
}

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
    let say = |text: String| {
        if !args.quiet {
            println!("{text}");
        }
    };
    let first = open(&args.gate, &args.first, args.first_format)?;
    let second = open(&args.gate, &args.second, args.second_format)?;
    let (small, large) =
        if first.size() <= second.size() { (&first, &second) } else { (&second, &first) };
    if small.size() != large.size() {
        if args.strict {
            say("Strict mode: Image size mismatch!".to_owned());
            return Ok(false);
        }
        say("Warning: Image size mismatch!".to_owned());
    }
    let mut offset = 0;
    while offset < large.size() {
        let rest = ByteRange::new(offset, large.size() - offset);
        let (ours, theirs) = (small.status(rest)?, large.status(rest)?);
        if args.strict && ours.data != theirs.data {
            say(format!("Strict mode: Offset {offset} block status mismatch!"));
            return Ok(false);
        }
        let alike = ours.length.min(theirs.length);
        if !ours.data && !theirs.data {
            offset += alike;
            continue;
        }
        if let Some(place) = first_difference(small, large, rest.clip(offset + alike))? {
            say(format!("Content mismatch at offset {place}!"));
            return Ok(false);
        }
        offset += alike;
    }
    say("Images are identical.".to_owned());
    Ok(true)
}

/// The sector of `range` from which on the two differ, as its offset.
fn first_difference(a: &Disk, b: &Disk, range: ByteRange) -> anyhow::Result<Option<u64>> {
    let length = usize::try_from(WINDOW)?;
    let (mut ours, mut theirs) = (Buffer::zeroed(length), Buffer::zeroed(length));
    let mut offset = range.start();
    while offset < range.end() {
        let window = ByteRange::new(offset, WINDOW.min(range.end() - offset));
        (ours, theirs) = (a.read(window, ours)?, b.read(window, theirs)?);
        let differs = |(a, b): (&[u8], &[u8])| a != b;
        if let Some(sector) = ours.chunks(SECTOR).zip(theirs.chunks(SECTOR)).position(differs) {
            return Ok(Some(offset + (sector * SECTOR) as u64));
        }
        offset = window.end();
    }
    Ok(None)
}

fn open(gate: &GateArgs, path: &Path, format: Option<DiskFormat>) -> anyhow::Result<Disk> {
    let named_qbm = path.extension().is_some_and(|ending| ending == "qbm");
    let by_name = if named_qbm { DiskFormat::Qbm } else { DiskFormat::Raw };
    let file = |error: std::io::Error| anyhow::anyhow!("{}: {error}", path.display());
    match format.unwrap_or(by_name) {
        DiskFormat::Qbm => {
            let image = gate.image(path, OpenOptions::new(Access::Read))?;
            Ok(Disk::Image(Box::new(image)))
        }
        DiskFormat::Raw => {
            let data = StdFile::open_operator(path, Access::Read).map_err(file)?;
            block_on(data.lock(Lock::Read)).map_err(file)?;
            let size = block_on(data.len()).map_err(file)?;
            Ok(Disk::Raw(data, size))
        }
    }
}

impl Disk {
    fn size(&self) -> u64 {
        match self {
            Self::Raw(_, size) => *size,
            Self::Image(image) => image.size(),
        }
    }

    /// The bytes of `range`, in `buffer`, with zeroes past the end.
    fn read(&self, range: ByteRange, buffer: Buffer) -> anyhow::Result<Buffer> {
        let length = usize::try_from(range.length())?;
        let there = usize::try_from(range.clip(self.size()).length())?;
        let buffer = buffer.widen().narrow(0..there);
        let buffer = match self {
            _ if there == 0 => buffer,
            Self::Raw(data, _) => block_on(data.read_at(range.start(), buffer))?,
            Self::Image(image) => block_on(image.read(range.start(), buffer))?,
        };
        let mut past = buffer.widen().narrow(there..length);
        past.fill(0);
        Ok(past.widen().narrow(0..length))
    }

    /// What the first bytes of `range` hold, with nothing past the end.
    fn status(&self, range: ByteRange) -> anyhow::Result<BlockStatus> {
        let there = range.clip(self.size());
        Ok(match self {
            _ if there.is_empty() => BlockStatus { length: range.length(), data: false },
            Self::Raw(file, _) => block_on(file.block_status(there))?,
            Self::Image(image) => {
                let extent = block_on(image.block_status(there))?;
                BlockStatus { length: extent.length, data: extent.data }
            }
        })
    }
}
