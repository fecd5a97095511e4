//! `qbm check`: finds what a crash or a stranger left, and clears it away.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use futures_executor::block_on;
use qbm_core::Access;
use qbm_core::image::{self, CheckReport};
use serde_json::{Value, json};

use crate::open::{ImageArgs, host};
use crate::output::{self, Output};

/// Find what a crash left behind, and clear it away
///
/// Exit status: 0 nothing found, or all repaired; 1 the check failed; 3 files that nothing refers to.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Recover the image if it was not closed cleanly, and remove files that nothing refers to
    #[arg(short, long, value_enum, value_name = "WHAT")]
    repair: Option<Repair>,
    /// Read it although a program has it open
    #[arg(short = 'U', long, conflicts_with = "repair")]
    force_share: bool,
    /// Say nothing of what was found
    #[arg(short)]
    quiet: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Repair {
    /// Files that nothing refers to
    Leaks,
    /// Everything
    All,
}

/// Runs the command.
///
/// # Errors
///
/// If the image cannot be opened.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let report = if args.repair.is_some() {
        let (directory, name) = args.image.place()?;
        let data = args.image.data(Access::Write)?;
        block_on(image::repair(directory, &name, data, host()))?
    } else {
        let image = args.image.open(Access::Read, args.force_share)?;
        block_on(image::check(&image))?
    };
    match args.output {
        Output::Json => output::print_json(&to_json(args, &report)),
        Output::Human if args.quiet => {}
        Output::Human => print(args, &report),
    }
    let leaks = args.repair.is_none() && !report.orphans.is_empty();
    Ok(if leaks { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn to_json(args: &CheckArgs, report: &CheckReport) -> Value {
    let doubts: Vec<Value> = report
        .doubts
        .iter()
        .map(|(name, doubt)| {
            json!({ "bitmap": name, "code": doubt.code(), "reason": doubt.sentence() })
        })
        .collect();
    let (found, fixed) =
        if args.repair.is_some() { (0, report.orphans.len()) } else { (report.orphans.len(), 0) };
    json!({
        "filename": args.image.image.display().to_string(),
        "format": "qbm",
        "check-errors": 0,
        "leaks": found,
        "leaks-fixed": fixed,
        "orphans": report.orphans,
        "doubts": doubts,
        "unclean": report.unclean,
    })
}

fn print(args: &CheckArgs, report: &CheckReport) {
    let done = if args.repair.is_some() { "removed" } else { "nothing refers to it" };
    for orphan in &report.orphans {
        println!("{orphan}: {done}");
    }
    for (name, doubt) in &report.doubts {
        println!("bitmap {name}: doubtful ({}): {}", doubt.code(), doubt.sentence());
    }
    if report.unclean {
        println!("The image was not closed cleanly, or is in use. No mark is lost by that.");
    }
    if report.orphans.is_empty() && report.doubts.is_empty() && !report.unclean {
        println!("No errors were found on the image.");
    }
}
