//! `qbm measure`: how much space a conversion would take, in the words of `qemu-img measure`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use futures_executor::block_on;
use qbm_core::ByteRange;
use serde_json::json;

use crate::disk::{CopyArgs, DiskFormat, OpenDisk};
use crate::output::{self, Output};
use crate::size;

/// Tell how much space a disk would take in another format
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qbm measure -O qbm vm.qbm      what a copy of it takes, and its bitmaps apart
  qbm measure -O raw --size 40G")]
pub struct MeasureArgs {
    /// The disk that would be read
    #[arg(required_unless_present = "size")]
    disk: Option<PathBuf>,
    /// The size of a new disk, instead
    #[arg(long, value_name = "SIZE", value_parser = size::parse, conflicts_with = "disk")]
    size: Option<u64>,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
    #[command(flatten)]
    copy: CopyArgs,
}

/// Bytes that a descriptor takes, and that files grow by.
const BLOCK: u64 = 4096;

/// What a disk takes, in bytes.
struct Measure {
    /// If it is copied as it is now.
    required: u64,
    /// Once every byte of it has been written.
    full: u64,
    /// Its bitmaps; `None` where the format of either side has none.
    bitmaps: Option<u64>,
}

/// Runs the command.
///
/// # Errors
///
/// If the disk cannot be read.
pub fn run(args: &MeasureArgs) -> anyhow::Result<ExitCode> {
    let Measure { required, full, bitmaps } = match (&args.disk, args.size) {
        (Some(path), _) => of_disk(&args.copy.source(path)?, args.copy.output_format)?,
        (None, size) => of_size(size.unwrap_or(0), 0, args.copy.output_format),
    };
    if args.output == Output::Json {
        let mut sizes = json!({ "required": required, "fully-allocated": full });
        if let Some(bitmaps) = bitmaps {
            sizes["bitmaps"] = json!(bitmaps);
        }
        output::print_json(&sizes);
        return Ok(ExitCode::SUCCESS);
    }
    println!("required size: {required}");
    println!("fully allocated size: {full}");
    if let Some(bitmaps) = bitmaps {
        println!("bitmaps size: {bitmaps}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What a disk of `size` bytes takes, of which `data` are not zero.
fn of_size(size: u64, data: u64, format: DiskFormat) -> Measure {
    match format {
        // The length of the file, as qemu-img has it, whatever its holes are.
        DiskFormat::Raw => Measure { required: size, full: size, bitmaps: None },
        DiskFormat::Qbm => Measure {
            required: data.saturating_add(BLOCK),
            full: size.next_multiple_of(BLOCK) + BLOCK,
            bitmaps: None,
        },
    }
}

fn of_disk(source: &OpenDisk, format: DiskFormat) -> anyhow::Result<Measure> {
    let disk = source.disk();
    let mut data = 0;
    let mut offset = 0;
    while offset < disk.size() && format == DiskFormat::Qbm {
        let extent = block_on(disk.extent(ByteRange::new(offset, disk.size() - offset)))?;
        if extent.data {
            let blocks = (offset / BLOCK)..(offset + extent.length).div_ceil(BLOCK);
            data += (blocks.end - blocks.start) * BLOCK;
        }
        offset += extent.length;
    }
    let mut measure = of_size(disk.size(), data, format);
    if let (OpenDisk::Image(image), DiskFormat::Qbm) = (source, format) {
        let bytes = |granules: u64| granules.div_ceil(8).next_multiple_of(BLOCK);
        let bitmaps = block_on(image.bitmaps());
        let bitmaps = bitmaps.iter().map(|bitmap| bitmap.granularity.granules_of(disk.size()));
        measure.bitmaps = Some(bitmaps.map(bytes).sum());
    }
    Ok(measure)
}
