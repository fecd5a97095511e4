//! Checks of the code: leftovers, headers, lengths, `unsafe`, and hosts of package registries.

use super::Finding;
use super::tree::Tree;

/// The most lines of a Rust file without a reason.
const MAX_LINES: usize = 600;

/// How the line begins that gives the reason for a longer file.
const REASON: &str = concat!("// Longer than ", "600 lines: ");

/// What must not stay in the code. Split, so that this file does not find itself.
const LEFTOVERS: [&str; 8] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("#[ig", "nore"),
    concat!("<<<<", "<<<"),
];

/// Hosts of package registries: which one serves a package is the user's choice, not the project's.
const REGISTRY_HOSTS: [&str; 6] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".org"),
    concat!("deb.debian", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("pythonhosted", ".org"),
];

/// Files that tools write and people do not.
fn is_generated(path: &str) -> bool {
    path.ends_with("Cargo.lock")
}

/// Unfinished work, debugging aids, skipped tests and conflict marks.
pub(super) fn leftovers(tree: &Tree) -> Vec<Finding> {
    occurrences(tree, &LEFTOVERS, "is a leftover")
}

/// Names of package registries' hosts.
pub(super) fn registry_hosts(tree: &Tree) -> Vec<Finding> {
    occurrences(tree, &REGISTRY_HOSTS, "is the host of a package registry")
}

fn occurrences(tree: &Tree, words: &[&str], what: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !is_generated(path)) {
        for (index, line) in text.lines().enumerate() {
            let found = words.iter().filter(|word| line.contains(**word));
            findings.extend(found.map(|word| Finding {
                path: path.to_owned(),
                line: index + 1,
                what: format!("'{word}' {what}"),
            }));
        }
    }
    findings
}

/// Every Rust file begins by saying what it is.
pub(super) fn headers(tree: &Tree) -> Vec<Finding> {
    let bare = tree.files_with("rs").filter(|(_, text)| !text.starts_with("//! "));
    bare.map(|(path, _)| Finding {
        path: path.to_owned(),
        line: 1,
        what: "the file does not begin with a '//!' header".to_owned(),
    })
    .collect()
}

/// A Rust file past [`MAX_LINES`] has a line that says why.
pub(super) fn lengths(tree: &Tree) -> Vec<Finding> {
    let has_reason = |text: &str| text.lines().any(|line| line.starts_with(REASON));
    let long = tree.files_with("rs").filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > MAX_LINES && !has_reason(text)).then(|| Finding {
            path: path.to_owned(),
            line: 0,
            what: format!("{lines} lines; split it, or say why not: '{REASON}...'"),
        })
    });
    long.collect()
}

/// The one crate that may use `unsafe`, and its one module that does.
const UNSAFE_CRATE: &str = "qbm-io-uring/src/lib.rs";
const UNSAFE_MODULE: &str = "qbm-io-uring/src/ring.rs";

/// The most lines of that module: it has to be read as a whole.
const MAX_UNSAFE_LINES: usize = 150;

/// What lifts a ban on `unsafe`. Split, so that this file does not find itself.
const LIFTED: [&str; 2] = [concat!("allow(unsafe", "_code"), concat!("expect(unsafe", "_code")];

/// Every library and program forbids `unsafe`, but for one module. (A fuzz target cannot: its entry
/// point is exported.)
pub(super) fn forbidden_unsafe(tree: &Tree) -> Vec<Finding> {
    let is_root = |path: &str| {
        path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("src/bin/")
    };
    let mut findings = Vec::new();
    let mut find = |path: &str, what: String| {
        findings.push(Finding { path: path.to_owned(), line: 0, what });
    };
    for (path, text) in tree.files_with("rs") {
        let exception = path == UNSAFE_CRATE;
        let ban = if exception { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
        if is_root(path) && !text.lines().any(|line| line == ban) {
            find(path, format!("the crate has no '{ban}'"));
        }
        let lifted = LIFTED.iter().map(|word| text.matches(word).count()).sum::<usize>();
        if lifted > usize::from(exception) {
            find(path, format!("'unsafe' is for {UNSAFE_MODULE} alone"));
        }
        if path == UNSAFE_MODULE && text.lines().count() > MAX_UNSAFE_LINES {
            find(path, format!("more than {MAX_UNSAFE_LINES} lines around 'unsafe'"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIDY: &str = "//! A crate.\n#![forbid(unsafe_code)]\n";

    /// Where `check` finds something in a tree of one file.
    fn lines_found(check: super::super::Check, path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_tidy_crate_has_no_finding() {
        for check in [leftovers, headers, lengths, forbidden_unsafe, registry_hosts] {
            assert_eq!(lines_found(check, "a/src/lib.rs", TIDY), []);
        }
    }

    #[test]
    fn every_leftover_is_found_where_it_stands() {
        for word in LEFTOVERS {
            let text = format!("{TIDY}fn f() {{\n    {word}\n}}\n");
            assert_eq!(lines_found(leftovers, "a/src/lib.rs", &text), [4], "{word}");
        }
    }

    #[test]
    fn a_registry_host_is_found_except_in_a_generated_file() {
        let text = format!("see https://{}/x\n", REGISTRY_HOSTS[0]);
        assert_eq!(lines_found(registry_hosts, "README.md", &text), [1]);
        assert_eq!(lines_found(registry_hosts, "fuzz/Cargo.lock", &text), []);
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(lines_found(headers, "a/src/b.rs", "use std::fmt;\n"), [1]);
    }

    #[test]
    fn a_long_file_needs_a_reason() {
        let long = "//! A table.\n".to_owned() + &"\n".repeat(MAX_LINES);
        assert_eq!(lines_found(lengths, "a/src/b.rs", &long), [0]);
        assert_eq!(lines_found(lengths, "a/src/b.rs", &format!("{long}{REASON}a table\n")), []);
    }

    #[test]
    fn a_crate_that_does_not_forbid_unsafe_is_found() {
        let lax = "//! A crate.\n// #![forbid(unsafe_code)]\n";
        for root in ["a/src/lib.rs", "a/src/main.rs", "a/src/bin/b.rs"] {
            assert_eq!(lines_found(forbidden_unsafe, root, lax), [0], "{root}");
        }
        assert_eq!(lines_found(forbidden_unsafe, "a/src/module.rs", lax), []);
    }

    #[test]
    fn unsafe_is_for_one_short_module_alone() {
        let text = format!("//! A crate.\n#![deny(unsafe_code)]\n#[{})]\nmod ring;\n", LIFTED[1]);
        assert_eq!(lines_found(forbidden_unsafe, UNSAFE_CRATE, &text), []);
        assert_eq!(lines_found(forbidden_unsafe, "a/src/lib.rs", &text), [0, 0]);
        let twice = format!("{text}#[{})]\nmod file;\n", LIFTED[0]);
        assert_eq!(lines_found(forbidden_unsafe, UNSAFE_CRATE, &twice), [0]);
        let long = "//! A ring.\n".to_owned() + &"\n".repeat(MAX_UNSAFE_LINES);
        assert_eq!(lines_found(forbidden_unsafe, UNSAFE_MODULE, &long), [0]);
    }
}
