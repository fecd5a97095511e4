//! `qbm audit`: whether a mark was lost, by reading the disk.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::bail;
use clap::Args;
use futures_executor::block_on;
use qbm_core::backup::{self, Progress, Reference};
use qbm_core::bits::Bits;
use qbm_core::image::BitmapInfo;
use qbm_core::{Access, ByteRange, Error, Granularity};
use serde_json::{Value, json};

use crate::open::{FileDirectory, FileImage, ImageArgs, host, naming};
use crate::output::{self, Output};
use crate::progress::Bar;

/// Bytes of a disk that a thread takes on at a time.
const PIECE: u64 = 8 << 20;

/// Read the disk, and find what has changed since the last backup without a mark
///
/// Nothing is changed. What is marked is not looked at, since the next backup stores it anyway. What
/// is found was written behind QBM's back, or is a mark that was lost: `qbm rebuild` marks it.
///
/// Exit status: 0 no mark is missing; 1 the audit failed; 3 marks are missing.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// The directory of the points
    target: PathBuf,
    /// The bitmap to audit
    #[arg(long, value_name = "NAME", default_value = "backup")]
    bitmap: String,
    /// Read it although a program has it open and writes to it
    #[arg(short = 'U', long)]
    force_share: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// What an audit found.
struct Report {
    /// The name of the point that was compared with.
    point: String,
    bitmap: BitmapInfo,
    /// Granules that were looked at.
    checked: u64,
    /// Parts of the disk that have changed without a mark.
    lost: Vec<ByteRange>,
}

/// Runs the command.
///
/// # Errors
///
/// If either side cannot be read, or there is no point to compare with.
pub fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let image = args.image.open(Access::Read, args.force_share)?;
    let report = audit(args, &image)?;
    match args.output {
        Output::Json => output::print_json(&to_json(args, &report)),
        Output::Human => print(&report),
    }
    Ok(if report.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn audit(args: &AuditArgs, image: &FileImage) -> anyhow::Result<Report> {
    let naming = naming(&args.image.image);
    let target = args.image.gate.directory(&args.target)?;
    let reference = block_on(backup::reference(image, &target, &args.bitmap, &host()));
    let reference = reference.map_err(&naming)?;
    let bitmap = info(image, &args.bitmap).map_err(&naming)?;
    let mut marks = block_on(image.bitmap_bits(&args.bitmap)).map_err(&naming)?;
    let found = differing(image, &reference, bitmap.granularity, Some(&marks)).map_err(&naming)?;
    let checked = marks.len() - marks.count();
    if args.force_share {
        // A mark comes before its data: what was written meanwhile is marked by now.
        let image = args.image.open(Access::Read, true)?;
        let now = info(&image, &args.bitmap).map_err(&naming)?;
        let later = block_on(image.bitmap_bits(&args.bitmap)).map_err(&naming)?;
        if now.points[0] != Some(reference.point()) || later.len() != marks.len() {
            bail!("the bitmap or the disk became another while it was read; try again");
        }
        marks = later;
    }
    let size = image.size();
    let lost = found.areas().flat_map(|area| unmarked(&marks, area));
    let lost = lost.map(|area| bitmap.granularity.bytes_of(area, size)).collect();
    Ok(Report { point: reference.name().to_owned(), bitmap, checked, lost })
}

/// The parts of `area` that `marks` does not mark.
fn unmarked(marks: &Bits, area: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
    let mut parts = Vec::new();
    let mut from = area.start;
    while let Some(start) = marks.next_clear_in(from..area.end) {
        from = marks.next_set_in(start..area.end).unwrap_or(area.end);
        parts.push(start..from);
    }
    parts
}

/// What is known of the bitmap `name`.
pub(super) fn info(image: &FileImage, name: &str) -> Result<BitmapInfo, Error> {
    let found = block_on(image.bitmaps()).into_iter().find(|bitmap| bitmap.name == name);
    found.ok_or_else(|| Error::BitmapNotFound(name.to_owned()))
}

/// The granules of the disk of `image` that differ from `reference`, but for those in `skip`: looked
/// for by as many threads as there are processors.
pub(super) fn differing(
    image: &FileImage,
    reference: &Reference<FileDirectory>,
    granularity: Granularity,
    skip: Option<&Bits>,
) -> Result<Bits, Error> {
    let size = image.size();
    let differing = Bits::new(granularity.granules_of(size));
    let bar = Mutex::new((Bar::new("compare"), Progress { done: 0, total: size }));
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let start = next.fetch_add(PIECE, Ordering::Relaxed);
            if start >= size {
                return Ok(());
            }
            let piece = ByteRange::new(start, PIECE.min(size - start));
            let compared = block_on(reference.compare(image, piece, skip, &differing));
            if compared.is_err() {
                // Nobody needs to go on.
                next.store(size, Ordering::Relaxed);
            }
            compared?;
            let mut bar = bar.lock().expect("nobody panics with it");
            bar.1.done += piece.length();
            let progress = bar.1;
            bar.0.show(progress);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        ends.collect::<Result<Vec<()>, Error>>()
    })?;
    Ok(differing)
}

fn to_json(args: &AuditArgs, report: &Report) -> Value {
    let Report { point, bitmap, checked, lost } = report;
    let lost: Vec<Value> =
        lost.iter().map(|area| json!({ "start": area.start(), "length": area.length() })).collect();
    let doubt = bitmap.doubt;
    json!({
        "filename": args.image.image.display().to_string(),
        "bitmap": bitmap.name,
        "point": bitmap.points[0].map(|id| id.to_string()),
        "name": point,
        "granularity": bitmap.granularity.bytes(),
        "checked": checked,
        "marked": bitmap.marked,
        "doubt": doubt.map(|doubt| json!({ "code": doubt.code(), "reason": doubt.sentence() })),
        "lost": lost,
    })
}

fn print(report: &Report) {
    let Report { point, bitmap, checked, lost } = report;
    for area in lost {
        println!(
            "{} bytes at {} differ from point {point}, without a mark",
            area.length(),
            area.start()
        );
    }
    if let Some(doubt) = bitmap.doubt {
        println!("The bitmap is doubtful ({}): {}", doubt.code(), doubt.sentence());
    }
    println!("{checked} granules without a mark were compared, {} are marked.", bitmap.marked);
    if lost.is_empty() {
        println!("No mark is missing.");
    }
}
