//! What neither the compiler nor clippy checks: leftovers, headers, links, and named tests.
//!
//! The checks work on a [`Tree`] in memory, so that each can be shown to find what it is for. All
//! findings are reported, not only the first.

mod code;
mod links;
mod promises;
mod tree;

use anyhow::{Result, bail};

use tree::Tree;

/// Something untidy: where, and what.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// The line, from 1; 0 for the whole file.
    line: usize,
    what: String,
}

type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    code::leftovers,
    code::headers,
    code::lengths,
    code::forbidden_unsafe,
    code::registry_hosts,
    links::relative_links,
    promises::named_tests,
];

/// Checks the files that git knows, and those it would add.
///
/// # Errors
///
/// If anything is untidy; each finding is shown as `PATH:LINE: WHAT`.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read()?;
    let findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&tree)).collect();
    for Finding { path, line, what } in &findings {
        eprintln!("{path}:{line}: {what}");
    }
    if !findings.is_empty() {
        bail!("{} untidy places", findings.len());
    }
    eprintln!("{} files are tidy", tree.files().count());
    Ok(())
}
