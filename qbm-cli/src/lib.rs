//! The program `qbm`, as a library that its thin `main` and the tests share.
//!
//! Each command is a file of [`commands`]. What they have in common is how an image is opened
//! ([`open`]), how sizes are read ([`size`]) and written ([`output`]), and progress.
#![forbid(unsafe_code)]

#[macro_use]
mod printing;

pub mod aio;
pub mod chain;
pub mod commands;
pub mod disk;
pub mod drill;
pub mod io;
pub mod logging;
pub mod medium;
pub mod open;
pub mod output;
pub mod progress;
pub mod remote;
pub mod size;
pub mod target;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Crash-safe dirty bitmaps for any disk image, and incremental backups by them.
#[derive(Debug, Parser)]
#[command(name = "qbm", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Program {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  qbm create --data-file vm.raw vm.qbm     track a raw disk, which is not touched
  qbm io -c 'write -P 7 0 1M' vm.qbm       write through the image, so that it is marked
  qbm backup vm.qbm /backup/vm             full the first time, incremental after that
  qbm restore /backup/vm restored.raw      the newest point, as a raw disk
  qbm serve --socket vm.sock vm.qbm        let a virtual machine or a backup program attach by NBD
  qbm drill                                kill a writer again and again, and count lost marks";

#[derive(Debug, Subcommand)]
enum Command {
    Create(commands::create::CreateArgs),
    Overlay(commands::overlay::OverlayArgs),
    Info(commands::info::InfoArgs),
    Map(commands::map::MapArgs),
    Check(commands::check::CheckArgs),
    Bitmap(commands::bitmap::BitmapArgs),
    Resize(commands::resize::ResizeArgs),
    Compare(commands::compare::CompareArgs),
    Commit(commands::commit::CommitArgs),
    Rebase(commands::rebase::RebaseArgs),
    Stream(commands::stream::StreamArgs),
    Convert(commands::convert::ConvertArgs),
    Dd(commands::dd::DdArgs),
    Measure(commands::measure::MeasureArgs),
    Io(io::IoArgs),
    Backup(commands::backup::BackupArgs),
    Points(commands::points::PointsArgs),
    Restore(commands::restore::RestoreArgs),
    Verify(commands::verify::VerifyArgs),
    Audit(commands::audit::AuditArgs),
    Rebuild(commands::rebuild::RebuildArgs),
    Serve(commands::serve::ServeArgs),
    Daemon(commands::daemon::DaemonArgs),
    Drill(drill::DrillArgs),
    #[command(hide = true)]
    DrillWriter(drill::writer::WriterArgs),
    #[command(hide = true)]
    Man(commands::man::ManArgs),
}

/// The program: parses `arguments`, runs the command, and says in one line what went wrong.
pub fn start(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = match Program::try_parse_from(&arguments) {
        Ok(program) => program,
        Err(error) => return usage::refuse(&error, &arguments),
    };
    let done = run(program).and_then(|code| match printing::failure() {
        Some(error) => Err(anyhow::anyhow!("standard output: {error}")),
        None => Ok(code),
    });
    done.unwrap_or_else(|error| {
        eprintln!("qbm: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs the command; the error is what to print.
fn run(program: Program) -> anyhow::Result<ExitCode> {
    match program.command {
        Command::Create(args) => commands::create::run(args),
        Command::Overlay(args) => commands::overlay::run(&args),
        Command::Info(args) => commands::info::run(&args),
        Command::Map(args) => commands::map::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Bitmap(args) => commands::bitmap::run(args),
        Command::Resize(args) => commands::resize::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Commit(args) => commands::commit::run(&args),
        Command::Rebase(args) => commands::rebase::run(&args),
        Command::Stream(args) => commands::stream::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Dd(args) => commands::dd::run(&args),
        Command::Measure(args) => commands::measure::run(&args),
        Command::Io(args) => io::run(&args),
        Command::Backup(args) => commands::backup::run(&args),
        Command::Points(args) => commands::points::run(&args),
        Command::Restore(args) => commands::restore::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Audit(args) => commands::audit::run(&args),
        Command::Rebuild(args) => commands::rebuild::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Daemon(args) => commands::daemon::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::DrillWriter(args) => drill::writer::run(&args),
        Command::Man(args) => commands::man::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Two options of one name came from two people at once, and a verb could no longer be run.
    #[test]
    fn no_verb_has_two_options_of_one_name() {
        Program::command().debug_assert();
    }
}
