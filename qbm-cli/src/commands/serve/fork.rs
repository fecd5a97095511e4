//! `--fork`: the server goes on in the background once clients can connect.
//!
//! A process with threads cannot fork soundly, and this one may get some at any time. So the program
//! is run once more instead, with the same arguments, and says on a pipe where clients can connect.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use nix::unistd::{dup2_stderr, dup2_stdout, setsid};

/// The hidden option that tells the second process what it is.
const FORKED: &str = "--forked";

/// Runs this program in the background. Returns once clients can connect, or it has failed and said
/// why.
///
/// # Errors
///
/// If it cannot be run.
pub(in crate::commands) fn start() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    // After the verb: what comes later may be the value of an option.
    arguments.insert(1.min(arguments.len()), FORKED.into());
    let program = env::current_exe().context("--fork")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("--fork")?;
    let mut said = String::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut said).context("--fork")?;
    }
    if said.is_empty() {
        // It said on standard error why it ended.
        child.wait().context("--fork")?;
        return Ok(ExitCode::FAILURE);
    }
    print!("{said}");
    Ok(ExitCode::SUCCESS)
}

/// In the second process, before anything else: leaves the terminal.
///
/// # Errors
///
/// If the kernel refuses.
pub(in crate::commands) fn leave_terminal() -> io::Result<()> {
    setsid()?;
    Ok(())
}

/// In the second process, once clients can connect and it has said so: lets the first one end. From
/// here on nobody hears what it says.
///
/// # Errors
///
/// If `/dev/null` cannot be opened.
pub(in crate::commands) fn detach() -> io::Result<()> {
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stderr(&nowhere)?;
    dup2_stdout(&nowhere)?;
    Ok(())
}
