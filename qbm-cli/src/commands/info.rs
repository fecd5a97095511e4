//! `qbm info`: what an image is, from its descriptor alone.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use futures_executor::block_on;
use qbm_core::Access;
use qbm_core::descriptor::{Bitmap, BitmapKind, Descriptor, Durability, Format};
use qbm_core::image::BitmapInfo;
use serde_json::{Value, json};

use super::behind;
use crate::chain::read_descriptor;
use crate::open::ImageArgs;
use crate::output::{self, Output};

/// Show what an image is
///
/// Reads the descriptor and nothing else, so it works while a program has the image open.
#[derive(Args, Debug)]
pub struct InfoArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Also open the bitmaps: count their marks, and see which are doubtful
    #[arg(long)]
    marks: bool,
    /// Show the images behind it too, each after the one that shows it
    #[arg(long)]
    backing_chain: bool,
    /// Read it although a program has it open, which is done anyway
    #[arg(short = 'U', long, hide = true)]
    _force_share: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// Runs the command.
///
/// # Errors
///
/// If the descriptor cannot be read, with `--marks` a bitmap, or with `--backing-chain` what is behind.
pub fn run(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    args.image.place()?;
    let descriptor = read_descriptor(&args.image.gate, &args.image.image)?;
    let size = match descriptor.size {
        Some(size) => size,
        // A descriptor of another program: its data image says.
        None => args.image.open(Access::Read, true)?.size(),
    };
    let opened = if args.marks { opened(&args.image)? } else { Vec::new() };
    let mut chain = vec![describe(&args.image.image, &descriptor, size, &opened)];
    if args.backing_chain {
        chain.extend(behind::facts(&args.image, &descriptor)?);
    }
    match args.output {
        Output::Json if args.backing_chain => output::print_json(&Value::Array(chain)),
        Output::Json => output::print_json(&chain[0]),
        Output::Human => {
            for (depth, info) in chain.iter().enumerate() {
                if depth > 0 {
                    println!("");
                }
                print(info);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The dirty bitmaps as an open image has them, with what is doubtful, and the bytes that each marks.
fn opened(image: &ImageArgs) -> anyhow::Result<Vec<(BitmapInfo, u64)>> {
    let image = image.open(Access::Read, true)?;
    let bitmaps = block_on(image.bitmaps()).into_iter();
    Ok(bitmaps
        .map(|bitmap| {
            let bytes = bitmap.marked * bitmap.granularity.bytes();
            (bitmap, bytes.min(image.size()))
        })
        .collect())
}

/// The facts, in the words of `qemu-img info --output=json`.
pub(super) fn describe(
    path: &Path,
    descriptor: &Descriptor,
    size: u64,
    opened: &[(BitmapInfo, u64)],
) -> Value {
    let bitmaps: Vec<Value> = descriptor
        .bitmaps
        .iter()
        .filter(|bitmap| bitmap.kind == BitmapKind::Dirty)
        .map(|bitmap| {
            let opened = opened.iter().find(|(opened, _)| opened.name == bitmap.name);
            bitmap_facts(descriptor, bitmap, opened)
        })
        .collect();
    let mut data = json!({
        "data-file": descriptor.image.file,
        "data-file-format": format_name(descriptor.image.format),
        "durability": durability_name(descriptor.durability),
        "generation": descriptor.generation,
        "bitmaps": bitmaps,
    });
    if let Some(id) = descriptor.id {
        data["id"] = json!(id.to_string());
    }
    if let Some(in_use) = &descriptor.in_use {
        data["in-use"] = json!({
            "pid": in_use.pid,
            "program": in_use.program,
            "since": output::time(in_use.since),
        });
    }
    if let Some(point) = &descriptor.point {
        data["point"] = json!({
            "id": point.id.to_string(),
            "parent": point.parent.map(|id| id.to_string()),
            "created": output::time(point.created),
            "bitmap": point.bitmap,
            "stored": point.stored,
        });
    }
    data["after-crash"] = json!(after_crash(descriptor.durability));
    let mut info = json!({
        "filename": path.display().to_string(),
        "format": "qbm",
        "virtual-size": size,
        "dirty-flag": descriptor.in_use.is_some(),
        "format-specific": { "type": "qbm", "data": data },
    });
    if let Some(bytes) = on_disk(path, descriptor) {
        info["actual-size"] = json!(bytes);
    }
    if let Some(bitmap) = descriptor.allocation() {
        info["cluster-size"] = json!(bitmap.granularity.bytes());
    }
    if let Some(backing) = descriptor.backing() {
        let full = path.parent().map_or(PathBuf::new(), PathBuf::from).join(&backing.file);
        info["full-backing-filename"] = json!(full.display().to_string());
        info["backing-filename"] = json!(backing.file);
        info["backing-filename-format"] = json!(format_name(backing.format));
    }
    info
}

/// The facts of a bitmap, and of it as an open image has it.
fn bitmap_facts(
    descriptor: &Descriptor,
    bitmap: &Bitmap,
    opened: Option<&(BitmapInfo, u64)>,
) -> Value {
    let mut flags = Vec::new();
    if descriptor.in_use.is_some() {
        flags.push("in-use");
    }
    if !bitmap.disabled {
        flags.push("auto");
    }
    let mut facts = json!({
        "name": bitmap.name,
        "granularity": bitmap.granularity.bytes(),
        "flags": flags,
        "persistent": true,
    });
    if let Some((_, count)) = opened {
        facts["count"] = json!(count);
    }
    if let Some(doubt) = opened.map_or(bitmap.doubt, |(opened, _)| opened.doubt) {
        facts["doubt"] = json!({ "code": doubt.code(), "reason": doubt.sentence() });
    }
    if let Some(seal) = descriptor.seal_of(bitmap) {
        facts["seal"] = json!(seal);
    }
    let points: Vec<_> = bitmap
        .segments
        .iter()
        .filter_map(|segment| segment.point)
        .map(|id| id.to_string())
        .collect();
    if !points.is_empty() {
        facts["points"] = json!(points);
    }
    facts
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Raw => "raw",
        Format::Qbm => "qbm",
    }
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Exact => "exact",
        Durability::Close => "close",
    }
}

/// What the bitmaps say after a crash, at worst.
fn after_crash(durability: Durability) -> &'static str {
    match durability {
        Durability::Exact => "every mark, and those of the writes that were under way",
        Durability::Close => "everything counts as changed",
    }
}

/// Bytes that the image's files take on disk, backing images not counted; `None` where one of
/// them lies elsewhere or is not there. Links are not followed.
fn on_disk(image: &Path, descriptor: &Descriptor) -> Option<u64> {
    const BLOCK: u64 = 512; // the unit of st_blocks, whatever the file system's is
    let directory = image.parent()?;
    let beside = |name: &str| {
        let path = Path::new(name);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| directory.join(path))
    };
    let names = descriptor
        .bitmaps
        .iter()
        .flat_map(|bitmap| &bitmap.segments)
        .map(|segment| &segment.file)
        .chain([&descriptor.image.file]);
    let mut paths = vec![image.to_owned()];
    for name in names {
        paths.push(beside(name)?);
    }
    let blocks = paths.iter().map(|path| Some(path.symlink_metadata().ok()?.blocks()));
    blocks.sum::<Option<u64>>().map(|blocks| blocks * BLOCK)
}

/// The same facts for people.
fn print(info: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let size = info["virtual-size"].as_u64().unwrap_or(0);
    let data = &info["format-specific"]["data"];
    println!("image: {}", text(&info["filename"]));
    println!("file format: {}", text(&info["format"]));
    println!("virtual size: {} ({size} bytes)", output::bytes(size));
    if let Some(bytes) = info["actual-size"].as_u64() {
        println!("disk size: {}", output::bytes(bytes));
    }
    if data.is_null() {
        return;
    }
    println!("data file: {}", text(&data["data-file"]));
    println!("data file format: {}", text(&data["data-file-format"]));
    if let Some(bytes) = info["cluster-size"].as_u64() {
        println!("cluster_size: {bytes}");
    }
    if let Some(backing) = info["backing-filename"].as_str() {
        match text(&info["full-backing-filename"]) {
            full if full == backing => println!("backing file: {backing}"),
            full => println!("backing file: {backing} (actual path: {full})"),
        }
        println!("backing file format: {}", text(&info["backing-filename-format"]));
    }
    println!(
        "durability: {}; after a crash {}",
        text(&data["durability"]),
        text(&data["after-crash"])
    );
    if let Some(in_use) = data["in-use"].as_object() {
        let (program, since) = (text(&in_use["program"]), text(&in_use["since"]));
        println!(
            "in use: by {program} (pid {}) since {since}, or not closed cleanly",
            in_use["pid"]
        );
    }
    if let Some(point) = data["point"].as_object() {
        println!("backup point: {} of {}", text(&point["id"]), text(&point["created"]));
    }
    let bitmaps = data["bitmaps"].as_array().map_or(&[][..], Vec::as_slice);
    for bitmap in bitmaps {
        print_bitmap(bitmap);
    }
}

fn print_bitmap(bitmap: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let granularity = bitmap["granularity"].as_u64().unwrap_or(0);
    let enabled = bitmap["flags"].as_array().is_some_and(|flags| flags.contains(&json!("auto")));
    let state = if enabled { "recording" } else { "disabled" };
    let sealed = if bitmap["seal"].is_null() { "" } else { ", sealed" };
    let count = bitmap["count"].as_u64();
    let count = count.map_or(String::new(), |count| format!(", {} marked", output::bytes(count)));
    println!(
        "bitmap: {}, granularity {}, {state}{sealed}{count}",
        text(&bitmap["name"]),
        output::bytes(granularity)
    );
    if let Some(doubt) = bitmap["doubt"].as_object() {
        println!("    doubtful ({}): {}", text(&doubt["code"]), text(&doubt["reason"]));
    }
}
