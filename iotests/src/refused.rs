//! Commands that are refused, whatever they were given: at once, in one line, changing nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bounded::run_bounded;
use crate::program::Finished;
use crate::tree::Tree;

/// The most time of processors that a refusal takes.
pub const MOST_TIME: Duration = Duration::from_secs(1);

/// Runs `command`, which must be refused: it fails in one line, within [`MOST_TIME`] and
/// [`MEMORY`](crate::bounded::MEMORY), and leaves all in `folder` as it was. Returns the line
/// without its end.
///
/// # Errors
///
/// What of that is not so.
///
/// # Panics
///
/// If the command cannot be started, or has not ended after 30 seconds.
#[track_caller]
pub fn refused(folder: &Path, command: &Command) -> Result<String, String> {
    let before = Tree::of(folder);
    let spent = run_bounded(command);
    let after = Tree::of(folder);
    let Finished { status, stdout, stderr, .. } = &spent.finished;
    let code = if command.get_args().next().is_some_and(|verb| verb == "compare") { 2 } else { 1 };
    let line = stderr.strip_suffix('\n').and_then(|line| line.strip_prefix("qbm: "));
    let line = line.filter(|line| !line.contains('\n') && stdout.is_empty());
    let changed = before.changed(&after);
    let why = match line {
        _ if status.code() != Some(code) => format!("{status}"),
        _ if !changed.is_empty() => format!("has changed {changed:?}"),
        _ if spent.processor > MOST_TIME => format!("took {:?}", spent.processor),
        Some(line) => return Ok(line.to_owned()),
        None => "is not refused in one line".to_owned(),
    };
    Err(format!("{command:?}: {why}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"))
}
