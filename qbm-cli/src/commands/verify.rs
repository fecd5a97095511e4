//! `qbm verify`: whether points are what was stored, and can be restored.

use std::process::ExitCode;

use clap::Args;
use futures_executor::block_on;
use qbm_core::ByteRange;
use qbm_core::backup::{self, Finding, PointEntry, Points};
use serde_json::{Value, json};

use super::points::{PointName, read};
use crate::open::{FileDirectory, GateArgs, host};
use crate::output::{self, Output};
use crate::progress::Bar;

/// Verify the checksums and chains of backup points
///
/// Exit status: 0 all is well, 1 something is wrong.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The directory of the points; after an @ the point to verify, with those that it is based on
    #[arg(value_name = "TARGET[@POINT]")]
    point: PointName,
    #[command(flatten)]
    gate: GateArgs,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// Runs the command.
///
/// # Errors
///
/// If the target cannot be read at all.
pub fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (directory, points, chosen) = match args.point.point {
        Some(_) => {
            let (directory, points, entry) = args.point.find(&args.gate)?;
            let chosen = chain_of(&points, entry);
            (directory, points, chosen)
        }
        None => {
            let directory = args.gate.directory(&args.point.target)?;
            let points = read(&directory, &args.point.target)?;
            let all = points.entries.clone();
            (directory, points, all)
        }
    };
    let mut facts = Vec::new();
    let mut sound = points.unreadable.is_empty();
    for entry in &chosen {
        let finding = check(&directory, &points, entry)?;
        sound &= finding.is_none();
        match args.output {
            Output::Json => facts.push(to_json(entry, finding.as_ref())),
            Output::Human => print(entry, finding.as_ref()),
        }
    }
    if args.output == Output::Json {
        output::print_json(&facts.into());
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `entry` and the points behind it, as far as they are there.
fn chain_of(points: &Points, entry: PointEntry) -> Vec<PointEntry> {
    let mut chain = vec![entry];
    while let Some(parent) = chain[chain.len() - 1].point.parent.and_then(|id| points.by_id(id)) {
        if chain.iter().any(|entry| entry.point.id == parent.point.id) {
            break;
        }
        chain.push(parent.clone());
    }
    chain
}

fn check(
    directory: &FileDirectory,
    points: &Points,
    entry: &PointEntry,
) -> anyhow::Result<Option<Finding>> {
    let mut bar = Bar::new(&entry.name);
    let mut show = |progress| bar.show(progress);
    Ok(block_on(backup::verify(directory, (points, entry), &host(), &mut show))?)
}

/// The stable word for a finding, and the sentence.
fn words(finding: &Finding) -> (&'static str, String) {
    match finding {
        Finding::Damaged { .. } => {
            ("damaged", "its contents are not those that were stored".to_owned())
        }
        Finding::DigestsDamaged => {
            let what = "the digests of its blocks are damaged or gone; its contents are whole";
            ("digests-damaged", what.to_owned())
        }
        Finding::ParentMissing => {
            ("parent-missing", "the point before it is not in the target".to_owned())
        }
        Finding::Unusable(error) => ("unusable", error.to_string()),
        _ => ("other", format!("{finding:?}")),
    }
}

/// Where it is damaged, as far as that is known.
fn areas(finding: &Finding) -> &[ByteRange] {
    match finding {
        Finding::Damaged { areas } => areas,
        _ => &[],
    }
}

fn to_json(entry: &PointEntry, finding: Option<&Finding>) -> Value {
    let finding = finding.map(|finding| {
        let (code, reason) = words(finding);
        let areas: Vec<Value> = areas(finding)
            .iter()
            .map(|area| json!({ "start": area.start(), "length": area.length() }))
            .collect();
        json!({ "code": code, "reason": reason, "areas": areas })
    });
    json!({ "point": entry.point.id.to_string(), "name": entry.name, "finding": finding })
}

fn print(entry: &PointEntry, finding: Option<&Finding>) {
    match finding {
        None => println!("{}: sound", entry.name),
        Some(finding) => {
            let (code, reason) = words(finding);
            println!("{}: {code}: {reason}", entry.name);
            for area in areas(finding) {
                println!("{}: {} bytes at {}", entry.name, area.length(), area.start());
            }
        }
    }
}
