//! `qbm map`: what is where on the disk, or what a bitmap marks.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use futures_executor::block_on;
use qbm_core::image::Extent;
use qbm_core::{Access, ByteRange};

use crate::open::{FileImage, ImageArgs, naming};
use crate::output::Output;

/// Show what is where on the disk, or what a bitmap marks
#[derive(Args, Debug)]
pub struct MapArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Show the marks of the bitmap NAME instead
    #[arg(long, value_name = "NAME")]
    bitmap: Option<String>,
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
    let image = args.image.open(Access::Read, args.force_share)?;
    match &args.bitmap {
        Some(name) => print_marks(&image, &args.image.image, name, args.output)?,
        None => print_extents(&image, args.output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_marks(image: &FileImage, file: &Path, name: &str, output: Output) -> anyhow::Result<()> {
    let bits = block_on(image.bitmap_bits(name)).map_err(naming(file))?;
    let bitmaps = block_on(image.bitmaps());
    let granularity = bitmaps.iter().find(|bitmap| bitmap.name == name).map(|b| b.granularity);
    let granularity = granularity.expect("its marks were just read");
    let mut list = JsonList::new(output);
    if output == Output::Human {
        println!("{:<16}{:<16}Dirty", "Offset", "Length");
    }
    let mut next = 0;
    let mut show = |range: ByteRange, dirty: bool| {
        let (start, length) = (range.start(), range.length());
        match output {
            _ if range.is_empty() => {}
            Output::Json => list.add(&[
                ("start", start.to_string()),
                ("length", length.to_string()),
                ("dirty", dirty.to_string()),
            ]),
            Output::Human if dirty => {
                println!("{:<16}{:<16}yes", hex(start), hex(length));
            }
            Output::Human => {}
        }
    };
    for area in bits.areas() {
        let marked = granularity.bytes_of(area, image.size());
        show(ByteRange::new(next, marked.start() - next), false);
        show(marked, true);
        next = marked.end();
    }
    show(ByteRange::new(next, image.size() - next), false);
    list.end();
    Ok(())
}

fn print_extents(image: &FileImage, output: Output) -> anyhow::Result<()> {
    let mut list = JsonList::new(output);
    if output == Output::Human {
        println!("{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to");
    }
    let mut show = |extent: Extent| -> anyhow::Result<()> {
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
                let file = image.layer_name(depth);
                println!("{:<16}{:<16}{:<16}{file}", hex(start), hex(length), hex(start));
            }
            Output::Human => {}
        }
        Ok(())
    };
    let mut offset = 0;
    let mut last: Option<Extent> = None;
    while offset < image.size() {
        let rest = ByteRange::new(offset, image.size() - offset);
        let extent = block_on(image.block_status(rest))?;
        offset += extent.length;
        match &mut last {
            Some(last) if alike(last, &extent) => last.length += extent.length,
            _ => last.replace(extent).map_or(Ok(()), &mut show)?,
        }
    }
    last.map_or(Ok(()), &mut show)?;
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
