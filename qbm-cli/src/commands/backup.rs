//! `qbm backup`: stores a point in time of an image in a directory.

mod by_server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures_executor::block_on;
use qbm_core::backup::{self, BackupOptions, BackupReport, Estimate, Kind};
use qbm_core::descriptor::Doubt;
use qbm_core::{Access, Granularity, Id};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::open::{FileDirectory, FileImage, GateArgs, ImageArgs, host};
use crate::output::{self, Output};
use crate::progress::Bar;
use crate::remote::RemoteArgs;
use crate::size;

/// Store the disk as it is now: all of it the first time, what has changed after that
///
/// Each point is an image of its own, `TARGET/NAME.qbm`, so that info, map and compare work on it.
/// A backup that fails or is killed loses no mark, and the next one just works.
#[derive(Args, Debug)]
pub struct BackupArgs {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// The directory of the points; it is made if it is not there
    target: PathBuf,
    /// The bitmap that says what has changed; it is added if the image does not have it
    #[arg(long, value_name = "NAME", default_value = "backup")]
    bitmap: String,
    /// Bytes that a bit of an added bitmap stands for
    #[arg(short, long, value_name = "SIZE", default_value = "64k", value_parser = size::granularity)]
    granularity: Granularity,
    /// While a server has the image, copy at most SIZE of what its guest writes over [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = fleece_limit)]
    fleece_limit: Option<u64>,
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

fn fleece_limit(text: &str) -> Result<u64, String> {
    size::parse(text).map_err(|error| error.to_string())
}

/// Runs the command.
///
/// # Errors
///
/// Why there is no new point. The marks are then all still there.
pub fn run(args: &BackupArgs) -> anyhow::Result<ExitCode> {
    if let Some(server) = args.remote.find(&args.image.image)? {
        return by_server::run(args, server);
    }
    let access = if args.estimate { Access::Read } else { Access::Write };
    let image = args.image.open(access, false)?;
    if args.estimate {
        let estimate = estimate(args, &image)?;
        print_estimate(args, &image, estimate);
        return Ok(ExitCode::SUCCESS);
    }
    let stored = store(args, &image);
    let id = block_on(image.descriptor()).id;
    let closed = block_on(image.close());
    let (report, created) = stored?;
    closed?;
    tell(args, &Stored::new(&report, id, created));
    Ok(ExitCode::SUCCESS)
}

fn tell(args: &BackupArgs, stored: &Stored) {
    match args.output {
        Output::Json => output::print_json(&json!(stored)),
        Output::Human => print(args, stored),
    }
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
    let target = open_target(&args.image.gate, &args.target)?;
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

/// Opens the directory `target`, and makes it if it is not there.
pub(crate) fn open_target(gate: &GateArgs, target: &Path) -> anyhow::Result<FileDirectory> {
    if !target.exists() {
        let made = std::fs::create_dir(target);
        made.with_context(|| target.display().to_string())?;
    }
    gate.directory(target)
}

/// A name for a point of the time `created` that `target` does not have yet.
///
/// Without colons: QEMU would take what is before one for a protocol.
pub(crate) fn free_name(created: &str, target: &Path) -> String {
    let plain = created.replace(':', "");
    let names = std::iter::once(plain.clone()).chain((2..).map(|n| format!("{plain}-{n}")));
    let taken = |name: &String| {
        let file = |ending: &str| target.join(format!("{name}.{ending}")).exists();
        file("qbm") || file("raw")
    };
    names.into_iter().find(|name| !taken(name)).expect("there is always another number")
}

/// What a backup has stored, as it is told in JSON, here and by a server.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Stored {
    point: String,
    name: String,
    created: String,
    #[serde(flatten)]
    kind: KindFacts,
    image: Option<String>,
    size: u64,
    dirty: u64,
    read: u64,
    stored: u64,
    doubt: Option<Reason>,
}

#[derive(Debug, Deserialize, Serialize)]
struct KindFacts {
    #[serde(rename = "type")]
    kind: String,
    parent: Option<String>,
    reason: Option<Reason>,
}

/// Why something is so: the word for programs, and the sentence for people.
#[derive(Debug, Deserialize, Serialize)]
struct Reason {
    code: String,
    reason: String,
}

impl Stored {
    /// What `report` says of a backup of the image `image`, made at the time `created`.
    pub(crate) fn new(report: &BackupReport, image: Option<Id>, created: String) -> Self {
        Self {
            point: report.point.to_string(),
            name: report.name.clone(),
            created,
            kind: KindFacts::of(report.kind),
            image: image.map(|id| id.to_string()),
            size: report.size,
            dirty: report.dirty,
            read: report.read,
            stored: report.stored,
            doubt: report.doubt.map(Reason::of_doubt),
        }
    }
}

impl KindFacts {
    fn of(kind: Kind) -> Self {
        let (kind, parent, reason) = match kind {
            Kind::Incremental { parent } => ("incremental", Some(parent.to_string()), None),
            Kind::Full(reason) => ("full", None, Some((reason.code(), reason.sentence()).into())),
        };
        Self { kind: kind.to_owned(), parent, reason }
    }
}

impl Reason {
    fn of_doubt(doubt: Doubt) -> Self {
        (doubt.code(), doubt.sentence()).into()
    }
}

impl From<(&str, &str)> for Reason {
    fn from((code, reason): (&str, &str)) -> Self {
        Self { code: code.to_owned(), reason: reason.to_owned() }
    }
}

fn print(args: &BackupArgs, stored: &Stored) {
    println!(
        "{} of \"{}\": {} of {} dirty, {} stored, point {} ({})",
        stored.kind.kind,
        args.bitmap,
        output::bytes(stored.dirty),
        output::bytes(stored.size),
        output::bytes(stored.stored),
        stored.created,
        stored.name
    );
    print_why(&stored.kind, stored.doubt.as_ref());
}

fn print_estimate(args: &BackupArgs, image: &FileImage, estimate: Estimate) {
    let kind = KindFacts::of(estimate.kind);
    let doubt = estimate.doubt.map(Reason::of_doubt);
    match args.output {
        Output::Json => output::print_json(&json!({
            "type": kind.kind,
            "parent": kind.parent,
            "reason": kind.reason,
            "dirty": estimate.bytes,
            "size": image.size(),
            "doubt": doubt,
        })),
        Output::Human => {
            let (dirty, size) = (output::bytes(estimate.bytes), output::bytes(image.size()));
            println!("{} of \"{}\": {dirty} of {size} dirty", kind.kind, args.bitmap);
            print_why(&kind, doubt.as_ref());
        }
    }
}

fn print_why(kind: &KindFacts, doubt: Option<&Reason>) {
    if let Some(Reason { code, reason }) = &kind.reason {
        println!("full ({code}): {reason}");
    }
    if let Some(Reason { code, reason }) = doubt {
        println!("doubtful ({code}): {reason}");
    }
}
