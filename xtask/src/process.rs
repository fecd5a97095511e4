//! Programs that a chore runs: shown before they run, and an error if they fail.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The root of the tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root of the tree")
}

/// `program`, to be run in the root of the tree and without an input.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// `cargo` with these arguments, as if the user had called it.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut cargo = command("cargo");
    cargo.args(arguments);
    // What cargo tells the program that it runs. Build scripts that look at it would run again whenever it
    // is another program, and all that depends on them would be built again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Shows the command, runs it and shows its output.
///
/// # Errors
///
/// If it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", line_of(command));
    let status = command.status().with_context(|| format!("{} not started", line_of(command)))?;
    if !status.success() {
        bail!("{}: {status}", line_of(command));
    }
    Ok(())
}

/// What the command prints, without showing it.
///
/// # Errors
///
/// If it cannot be started, does not succeed, or prints what is not UTF-8.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{} not started", line_of(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", line_of(command), output.status, said.trim());
    }
    String::from_utf8(output.stdout).context("its output is not UTF-8")
}

/// The command as one would type it; for people, so nothing is quoted.
fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
