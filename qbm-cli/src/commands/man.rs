//! `qbm man`: writes the manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};

use crate::Program;

/// Write the manual pages into a directory
#[derive(Args, Debug)]
pub struct ManArgs {
    /// The directory
    directory: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// If a page cannot be written.
pub fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(Program::command(), &args.directory)
        .with_context(|| args.directory.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
