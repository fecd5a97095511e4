//! `qbm map`: what is where on the disk, or what a bitmap marks.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use futures_executor::block_on;
use qbm_core::ByteRange;
use qbm_core::image::{Extent, MarkedExtent};

use crate::disk::OpenDisk;
use crate::open::{FileImage, ImageArgs, naming};
use crate::output::Output;
use crate::size;

/// Extents of a bitmap that are asked for at a time.
const EXTENTS: usize = 1024;

/// Show what is where on the disk, or what a bitmap marks
#[derive(Args, Debug)]
pub struct MapArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Show the marks of the bitmap NAME instead
    #[arg(long, value_name = "NAME")]
    bitmap: Option<String>,
    /// Start at the byte OFFSET
    #[arg(short = 's', long, value_name = "OFFSET", value_parser = size::parse, default_value = "0")]
    start_offset: u64,
    /// Show no more than LENGTH bytes
    #[arg(short = 'l', long, value_name = "LENGTH", value_parser = size::parse)]
    max_length: Option<u64>,
    /// Read it although a program has it open
    #[arg(short = 'U', long)]
    force_share: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// Runs the command.
///
/// # Errors
///
/// If the image cannot be read, or has no such bitmap.
pub fn run(args: &MapArgs) -> anyhow::Result<ExitCode> {
    let disk = args.image.open_disk(args.force_share)?;
    let end = args.max_length.map_or(u64::MAX, |length| args.start_offset.saturating_add(length));
    let end = end.min(disk.disk().size());
    let start = args.start_offset.min(end);
    let range = ByteRange::new(start, end - start);
    match (&args.bitmap, &disk) {
        (None, _) => print_extents(&disk, range, args.output)?,
        (Some(name), OpenDisk::Image(image)) => print_marks(args, image, name, range)?,
        (Some(_), OpenDisk::Raw { name, .. }) => bail!("{name}: a raw disk has no bitmaps"),
    }
    Ok(ExitCode::SUCCESS)
}

/// What is left of `range` from `offset` on.
fn rest(range: ByteRange, offset: u64) -> ByteRange {
    ByteRange::new(offset, range.end() - offset)
}

fn print_marks(
    args: &MapArgs,
    image: &FileImage,
    name: &str,
    range: ByteRange,
) -> anyhow::Result<()> {
    let mut list = JsonList::new(args.output);
    if args.output == Output::Human {
        println!("{:<16}{:<16}Dirty", "Offset", "Length");
    }
    if range.is_empty() {
        // Nothing to ask for; but that there is no such bitmap is told all the same.
        block_on(image.marks(name)).map_err(naming(&args.image.image))?;
    }
    let mut offset = range.start();
    while offset < range.end() {
        let extents = image.marked_extents(name, rest(range, offset), EXTENTS);
        for MarkedExtent { length, marked } in
            block_on(extents).map_err(naming(&args.image.image))?
        {
            match args.output {
                Output::Json => list.add(&[
                    ("start", offset.to_string()),
                    ("length", length.to_string()),
                    ("dirty", marked.to_string()),
                ]),
                Output::Human if marked => {
                    println!("{:<16}{:<16}yes", hex(offset), hex(length));
                }
                Output::Human => {}
            }
            offset += length;
        }
    }
    list.end();
    Ok(())
}

fn print_extents(disk: &OpenDisk, range: ByteRange, output: Output) -> anyhow::Result<()> {
    let mut list = JsonList::new(output);
    if output == Output::Human {
        println!("{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to");
    }
    let mut show = |extent: Extent| {
        let Extent { start, length, depth, present, data } = extent;
        match output {
            Output::Json => {
                let mut entry = vec![
                    ("start", start.to_string()),
                    ("length", length.to_string()),
                    ("depth", depth.to_string()),
                    ("present", present.to_string()),
                    ("zero", (!data).to_string()),
                    ("data", data.to_string()),
                    ("compressed", false.to_string()),
                ];
                if present {
                    entry.push(("offset", start.to_string()));
                }
                list.add(&entry);
            }
            Output::Human if data => {
                let file = disk.layer_name(depth);
                println!("{:<16}{:<16}{:<16}{file}", hex(start), hex(length), hex(start));
            }
            Output::Human => {}
        }
    };
    let mut offset = range.start();
    let mut last: Option<Extent> = None;
    while offset < range.end() {
        let extent = block_on(disk.disk().extent(rest(range, offset)))?;
        offset += extent.length;
        match &mut last {
            Some(last) if alike(last, &extent) => last.length += extent.length,
            _ => last.replace(extent).into_iter().for_each(&mut show),
        }
    }
    last.into_iter().for_each(show);
    list.end();
    Ok(())
}

fn alike(a: &Extent, b: &Extent) -> bool {
    (a.depth, a.present, a.data) == (b.depth, b.present, b.data)
}

fn hex(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { format!("{number:#x}") }
}

/// A JSON list that is printed as it comes, so that memory does not follow the disk, and with the
/// blanks of qemu-img, whose output some programs read by the line.
struct JsonList {
    output: Output,
    first: bool,
}

impl JsonList {
    fn new(output: Output) -> Self {
        Self { output, first: true }
    }

    /// Adds an object of `members`, whose values are JSON.
    fn add(&mut self, members: &[(&str, String)]) {
        let members: Vec<_> =
            members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        let before = if self.first { "[" } else { ",\n" };
        print!("{before}{{ {}}}", members.join(", "));
        self.first = false;
    }

    fn end(&self) {
        if self.output == Output::Json {
            println!("{}", if self.first { "[]" } else { "]" });
        }
    }
}
