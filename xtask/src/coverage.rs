//! How much of the code the tests reach, by line.
//!
//! `cargo llvm-cov` needs the tools of the LLVM that the compiler was made with; the pinned toolchain has none, and
//! Debian's package of the same version does.
//!
//! Two kinds of lines do not count: those that a [planted] bug alone reaches, and those that are nothing but
//! a closing brace, which after an `await` stand for the future being dropped there.

mod planted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::ordering_core;
use crate::process::{cargo, root, run as run_command};
use crate::tools;

/// The version of cargo-llvm-cov that is installed where there is none.
const CARGO_LLVM_COV: &str = "0.9.1";

/// Where Debian's package of LLVM has its programs.
const LLVM: &str = "/usr/lib/llvm-22/bin";

/// The package.
const LLVM_PACKAGE: &str = "llvm-22";

/// What is to be reached of the whole workspace, in percent; of the ordering core it is all.
const GOAL: usize = 92;

/// The lines of a file that can be reached, and how often each was.
type Lines = BTreeMap<usize, u64>;

/// Runs all tests, and says what they reach.
///
/// # Errors
///
/// If a test fails, a line of the ordering core is not reached, or too few of the workspace are.
pub(crate) fn run() -> Result<()> {
    tools::ensure_cargo_subcommand("llvm-cov", CARGO_LLVM_COV)?;
    if !Path::new(LLVM).join("llvm-cov").is_file() {
        tools::install(&[LLVM_PACKAGE]).context("the coverage needs the tools of LLVM 22")?;
    }
    let report = root().join("target/coverage.lcov");
    // The chores and the benches are no part of what is promised.
    let mut tests =
        cargo(["llvm-cov", "--workspace", "--exclude", "xtask", "--exclude", "benches"]);
    tests.args(["--lcov", "--output-path"]).arg(&report);
    tests.env("LLVM_COV", format!("{LLVM}/llvm-cov"));
    tests.env("LLVM_PROFDATA", format!("{LLVM}/llvm-profdata"));
    run_command(&mut tests)?;
    let text = std::fs::read_to_string(&report).context("there is no report")?;
    let mut files = read(&text)?;
    for (path, lines) in &mut files {
        let source = std::fs::read_to_string(root().join(path));
        leave_out(lines, &source.with_context(|| format!("{path} cannot be read"))?);
    }
    judge(&files)
}

/// The files of a report in the format of lcov, by their paths in the tree.
fn read(report: &str) -> Result<BTreeMap<String, Lines>> {
    let mut files = BTreeMap::<String, Lines>::new();
    let mut path = String::new();
    for line in report.lines() {
        if let Some(file) = line.strip_prefix("SF:") {
            let file = Path::new(file);
            path = file.strip_prefix(root()).unwrap_or(file).display().to_string();
        } else if let Some(data) = line.strip_prefix("DA:") {
            let mut parts = data.split(',');
            let mut next = || parts.next().context("a line of the report has too few numbers");
            let (number, count) = (next()?.parse()?, next()?.parse()?);
            files.entry(path.clone()).or_default().insert(number, count);
        }
    }
    Ok(files)
}

/// Leaves those of `lines` out that do not count.
fn leave_out(lines: &mut Lines, source: &str) {
    let planted = planted::lines(source);
    let braces = source.lines().enumerate().filter(|(_, line)| line.trim() == "}");
    let braces: BTreeSet<usize> = braces.map(|(index, _)| index + 1).collect();
    lines.retain(|line, _| !planted.contains(line) && !braces.contains(line));
}

/// Says what is reached, and what is not of the ordering core.
fn judge(files: &BTreeMap<String, Lines>) -> Result<()> {
    let mut missing = 0;
    println!("{:<44}{:>8}{:>8}", "the ordering core", "lines", "reached");
    for path in ordering_core::FILES {
        let lines = files.get(*path).with_context(|| format!("no test is built with {path}"))?;
        let unreached: Vec<String> = lines
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(line, _)| line.to_string())
            .collect();
        println!("{path:<44}{:>8}{:>8}", lines.len(), lines.len() - unreached.len());
        if !unreached.is_empty() {
            println!("    not reached: {}", unreached.join(", "));
        }
        missing += unreached.len();
    }
    let all = files.values().map(BTreeMap::len).sum::<usize>();
    let reached = files.values().flat_map(BTreeMap::values).filter(|count| **count > 0).count();
    ensure!(all > 0, "the report is empty");
    println!(
        "the workspace: {reached} of {all} lines, {:.1} %",
        reached as f64 * 100.0 / all as f64
    );
    if missing > 0 {
        bail!("{missing} lines of the ordering core are not reached");
    }
    ensure!(reached * 100 >= all * GOAL, "less than {GOAL} % of the workspace is reached");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{judge, leave_out, read};
    use crate::ordering_core::FILES;

    fn report(counts: [u64; 2]) -> String {
        let file = |path: &&str| {
            format!("SF:{path}\nDA:1,{}\nDA:2,{}\nend_of_record\n", counts[0], counts[1])
        };
        FILES.iter().map(file).collect()
    }

    #[test]
    fn a_closing_brace_and_what_a_planted_bug_does_do_not_count() {
        let source = "if mutants::planted(Mutant::A) {\n    return;\n}\ncode();\n";
        let mut lines = (1..=4).map(|line| (line, 0)).collect();
        leave_out(&mut lines, source);
        assert_eq!(lines.into_keys().collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn a_line_of_the_ordering_core_that_is_not_reached_is_an_error() {
        judge(&read(&report([1, 7])).unwrap()).unwrap();
        let error = judge(&read(&report([1, 0])).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} lines of the ordering core are not reached", FILES.len())
        );
        judge(&read("SF:a.rs\nDA:1,1\n").unwrap()).unwrap_err();
        judge(&read(&format!("{}SF:a.rs\nDA:1,0\n", report([1, 1]))).unwrap()).unwrap();
        let rest: String = (1..100).map(|line| format!("DA:{line},0\n")).collect();
        let error =
            judge(&read(&format!("{}SF:a.rs\n{rest}", report([1, 1]))).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "less than 92 % of the workspace is reached");
    }
}
