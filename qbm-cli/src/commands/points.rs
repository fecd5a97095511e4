//! `qbm points`: the points of a target, and how the command line names them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures_executor::block_on;
use qbm_core::backup::{self, PointEntry, Points};
use serde_json::{Value, json};

use crate::open::{FileDirectory, GateArgs};
use crate::output::{self, Output};

/// List the points of a backup target
#[derive(Args, Debug)]
pub struct PointsArgs {
    /// The directory of the points
    target: PathBuf,
    #[command(flatten)]
    gate: GateArgs,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// A target, and which of its points is meant.
#[derive(Clone, Debug)]
pub struct PointName {
    /// The directory.
    pub target: PathBuf,
    /// A name, an id or `latest`.
    pub point: Option<String>,
}

impl std::str::FromStr for PointName {
    type Err = String;

    /// Reads `TARGET` or `TARGET@POINT`. A directory with an `@` in its name is meant as it is.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('@') {
            Some((target, point)) if !Path::new(text).exists() => {
                Ok(Self { target: target.into(), point: Some(point.to_owned()) })
            }
            _ => Ok(Self { target: text.into(), point: None }),
        }
    }
}

impl PointName {
    /// The target, its points, and the one that is meant: the newest unless another is named.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or there is no such point.
    pub fn find(&self, gate: &GateArgs) -> anyhow::Result<(FileDirectory, Points, PointEntry)> {
        let directory = gate.directory(&self.target)?;
        let points = read(&directory, &self.target)?;
        let wanted = self.point.as_deref().unwrap_or("latest");
        match points.find(wanted).cloned() {
            Some(entry) => Ok((directory, points, entry)),
            None if points.entries.is_empty() => {
                bail!("{}: there is no backup point in it", self.target.display())
            }
            None => bail!("{}: there is no point '{wanted}' in it", self.target.display()),
        }
    }
}

/// The points of `target`; says on standard error which descriptors cannot be read.
///
/// # Errors
///
/// If the directory cannot be listed.
pub fn read(directory: &FileDirectory, target: &Path) -> anyhow::Result<Points> {
    let points = block_on(backup::points(directory));
    let points = points.with_context(|| target.display().to_string())?;
    for (_, error) in &points.unreadable {
        eprintln!("qbm: warning: {}: {error}", target.display());
    }
    Ok(points)
}

/// Runs the command.
///
/// # Errors
///
/// If the directory cannot be listed.
pub fn run(args: &PointsArgs) -> anyhow::Result<ExitCode> {
    let directory = args.gate.directory(&args.target)?;
    let points = read(&directory, &args.target)?;
    match args.output {
        Output::Json => {
            output::print_json(&points.entries.iter().map(to_json).collect::<Vec<_>>().into());
        }
        Output::Human => {
            for entry in &points.entries {
                print(entry, &points);
            }
        }
    }
    Ok(if points.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn kind(entry: &PointEntry) -> &'static str {
    if entry.point.parent.is_some() { "incremental" } else { "full" }
}

fn to_json(entry: &PointEntry) -> Value {
    let PointEntry { name, point, size } = entry;
    json!({
        "point": point.id.to_string(),
        "name": name,
        "type": kind(entry),
        "parent": point.parent.map(|id| id.to_string()),
        "created": output::time(point.created),
        "bytes": point.stored,
        "size": size,
        "image": point.image.to_string(),
        "bitmap": point.bitmap,
        "descriptor": entry.descriptor(),
    })
}

fn print(entry: &PointEntry, points: &Points) {
    let parent = entry.point.parent.map(|id| match points.by_id(id) {
        Some(parent) => format!("after {}", parent.name),
        None => format!("after {id}, which is missing"),
    });
    println!(
        "{:<22} {:<12} {:>10} of {:>10}  {}",
        entry.name,
        kind(entry),
        output::bytes(entry.point.stored),
        output::bytes(entry.size),
        parent.unwrap_or_default()
    );
}
