//! `qbm backup`: stores a point in time of an image in a directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures_executor::block_on;
use qbm_core::backup::{self, BackupOptions, BackupReport, Estimate, Kind};
use qbm_core::descriptor::Doubt;
use qbm_core::{Access, Granularity};
use serde_json::{Value, json};

use crate::open::{FileDirectory, FileImage, ImageArgs, host};
use crate::output::{self, Output};
use crate::progress::Bar;
use crate::size;

/// Store the disk as it is now: all of it the first time, what has changed after that
///
/// Each point is an image of its own, `TARGET/NAME.qbm`, so that info, map and compare work on it.
/// A backup that fails or is killed loses no mark, and the next one just works.
#[derive(Args, Debug)]
pub struct BackupArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// The directory of the points; it is made if it is not there
    target: PathBuf,
    /// The bitmap that says what has changed; it is added if the image does not have it
    #[arg(long, value_name = "NAME", default_value = "backup")]
    bitmap: String,
    /// Bytes that a bit of an added bitmap stands for
    #[arg(short, long, value_name = "SIZE", default_value = "64k", value_parser = size::granularity)]
    granularity: Granularity,
    /// Store the whole disk
    #[arg(long, conflicts_with = "require_incremental")]
    full: bool,
    /// Fail rather than store the whole disk
    #[arg(long)]
    require_incremental: bool,
    /// Say what would be stored, and store nothing
    #[arg(long)]
    estimate: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// Runs the command.
///
/// # Errors
///
/// Why there is no new point. The marks are then all still there.
pub fn run(args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let access = if args.estimate { Access::Read } else { Access::Write };
    let image = args.image.open(access, false)?;
    if args.estimate {
        let estimate = estimate(args, &image)?;
        print_estimate(args, &image, estimate);
        return Ok(ExitCode::SUCCESS);
    }
    let stored = store(args, &image);
    let id = block_on(image.descriptor()).id.map(|id| id.to_string());
    let closed = block_on(image.close());
    let (report, created) = stored?;
    closed?;
    match args.output {
        Output::Json => output::print_json(&to_json(&report, id.as_deref())),
        Output::Human => print(args, &report, &created),
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &BackupArgs, name: String) -> BackupOptions {
    BackupOptions {
        bitmap: args.bitmap.clone(),
        granularity: args.granularity,
        name,
        full: args.full,
        require_incremental: args.require_incremental,
    }
}

fn estimate(args: &BackupArgs, image: &FileImage) -> anyhow::Result<Estimate> {
    if !args.target.exists() {
        bail!("{}: there is no such directory yet, so all is stored", args.target.display());
    }
    let target = args.image.gate.directory(&args.target)?;
    let options = options(args, String::new());
    Ok(block_on(backup::estimate(image, &target, &options))?)
}

fn store(args: &BackupArgs, image: &FileImage) -> anyhow::Result<(BackupReport, String)> {
    let target = open_target(args)?;
    let host = host();
    let created = output::time(host.now());
    let name = free_name(&created, &args.target);
    let mut bar = Bar::new("backup");
    let mut show = |progress| bar.show(progress);
    let options = options(args, name);
    let report = block_on(backup::run(image, &target, &options, &host, &mut show));
    drop(bar);
    Ok((report?, created))
}

fn open_target(args: &BackupArgs) -> anyhow::Result<FileDirectory> {
    if !args.target.exists() {
        let made = std::fs::create_dir(&args.target);
        made.with_context(|| args.target.display().to_string())?;
    }
    args.image.gate.directory(&args.target)
}

/// A name for a point of the time `created` that `target` does not have yet.
///
/// Without colons: QEMU would take what is before one for a protocol.
fn free_name(created: &str, target: &Path) -> String {
    let plain = created.replace(':', "");
    let names = std::iter::once(plain.clone()).chain((2..).map(|n| format!("{plain}-{n}")));
    let taken = |name: &String| {
        let file = |ending: &str| target.join(format!("{name}.{ending}")).exists();
        file("qbm") || file("raw")
    };
    names.into_iter().find(|name| !taken(name)).expect("there is always another number")
}

fn to_json(report: &BackupReport, image: Option<&str>) -> Value {
    let (kind, parent, reason) = kind_facts(report.kind);
    json!({
        "point": report.point.to_string(),
        "name": report.name,
        "type": kind,
        "parent": parent,
        "reason": reason,
        "image": image,
        "size": report.size,
        "dirty": report.dirty,
        "read": report.read,
        "stored": report.stored,
        "doubt": report.doubt.map(doubt_facts),
    })
}

fn kind_facts(kind: Kind) -> (&'static str, Option<String>, Option<Value>) {
    match kind {
        Kind::Incremental { parent } => ("incremental", Some(parent.to_string()), None),
        Kind::Full(reason) => {
            let reason = json!({ "code": reason.code(), "reason": reason.sentence() });
            ("full", None, Some(reason))
        }
    }
}

fn doubt_facts(doubt: Doubt) -> Value {
    json!({ "code": doubt.code(), "reason": doubt.sentence() })
}

fn print(args: &BackupArgs, report: &BackupReport, created: &str) {
    let (kind, _, _) = kind_facts(report.kind);
    println!(
        "{kind} of \"{}\": {} of {} dirty, {} stored, point {created} ({})",
        args.bitmap,
        output::bytes(report.dirty),
        output::bytes(report.size),
        output::bytes(report.stored),
        report.name
    );
    print_why(report.kind, report.doubt);
}

fn print_estimate(args: &BackupArgs, image: &FileImage, estimate: Estimate) {
    let (kind, parent, reason) = kind_facts(estimate.kind);
    match args.output {
        Output::Json => output::print_json(&json!({
            "type": kind,
            "parent": parent,
            "reason": reason,
            "dirty": estimate.bytes,
            "size": image.size(),
            "doubt": estimate.doubt.map(doubt_facts),
        })),
        Output::Human => {
            let (dirty, size) = (output::bytes(estimate.bytes), output::bytes(image.size()));
            println!("{kind} of \"{}\": {dirty} of {size} dirty", args.bitmap);
            print_why(estimate.kind, estimate.doubt);
        }
    }
}

fn print_why(kind: Kind, doubt: Option<Doubt>) {
    if let Kind::Full(reason) = kind {
        println!("full ({}): {}", reason.code(), reason.sentence());
    }
    if let Some(doubt) = doubt {
        println!("doubtful ({}): {}", doubt.code(), doubt.sentence());
    }
}
