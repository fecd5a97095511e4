//! The tests and planted bugs that the documentation names exist.
//!
//! A page such as docs/guarantees.md names the tests that hold a promise, each after a label:
//!
//! ```text
//! * test: `acknowledged_marks_survive_every_crash`
//! * test: `qbm-sim/tests/crash.rs::acknowledged_marks_survive_every_crash`, for the simulator
//! ```
//!
//! The path, from the root of the tree, says which test is meant where several have the name. A planted
//! bug is named in the same way, after a label of its own: planted: `NoSync`.

use super::Finding;
use super::tree::Tree;

/// What stands before a test's name.
const LABEL: &str = "test: `";

/// What stands before a planted bug's name.
const PLANTED: &str = "planted: `";

/// Where the planted bugs are.
const BUGS: &str = "qbm-core/src/mutants.rs";

/// Names after the labels, in any Markdown file, that no test or planted bug has.
pub(super) fn named_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files_with("md") {
        for (index, line) in text.lines().enumerate() {
            let tests = names_on(line, LABEL).filter(|name| !is_test(tree, name));
            let tests = tests.map(|name| format!("there is no test '{name}'"));
            let bugs = names_on(line, PLANTED).filter(|name| !is_planted(tree, name));
            let bugs = bugs.map(|name| format!("there is no planted bug '{name}'"));
            let place = |what| Finding { path: path.to_owned(), line: index + 1, what };
            findings.extend(tests.chain(bugs).map(place));
        }
    }
    findings
}

/// The names in backticks, each right after `label`.
fn names_on<'a>(line: &'a str, label: &str) -> impl Iterator<Item = &'a str> {
    line.split(label).skip(1).filter_map(|rest| rest.split('`').next())
}

/// Whether a bug `name` can be planted.
fn is_planted(tree: &Tree, name: &str) -> bool {
    let variant = format!("{name},");
    tree.text(BUGS).is_some_and(|code| code.lines().any(|line| line.trim() == variant))
}

/// Whether `TEST` is a test in some file of the tree, or `FILE::TEST` one in that file.
fn is_test(tree: &Tree, name: &str) -> bool {
    match name.rsplit_once("::") {
        Some((path, test)) => tree.text(path).is_some_and(|text| has_test(text, test)),
        None => tree.files_with("rs").any(|(_, text)| has_test(text, name)),
    }
}

/// Whether the code has a function `test` that is marked as a test.
fn has_test(code: &str, test: &str) -> bool {
    let function = format!("fn {test}(");
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let places = (0..lines.len()).filter(|place| lines[*place].starts_with(&function));
    places.map(|place| &lines[..place]).any(has_test_attribute)
}

/// Whether the attributes and comments right before a function have `#[test]` among them.
fn has_test_attribute(before: &[&str]) -> bool {
    let belongs = |line: &&&str| line.starts_with("#[") || line.starts_with("//");
    before.iter().rev().take_while(belongs).any(|line| *line == "#[test]")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str =
        "//! Tests.\n\n/// A story.\n#[test]\n// Why.\nfn holds() {}\n\nfn helper() {}\n";

    fn missing(page: &str) -> Vec<String> {
        let bugs = (BUGS, "    /// Its story.\n    NoSync,\n");
        let tree = Tree::of(&[("docs/guarantees.md", page), ("a/tests/b.rs", CODE), bugs]);
        named_tests(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_test_that_exists_is_fine() {
        assert!(missing("P1, test: `holds`: not after `kill -9` only").is_empty());
        assert!(missing("test: `a/tests/b.rs::holds`, test: `holds`").is_empty());
        assert!(missing("`no::list` and no label").is_empty());
    }

    #[test]
    fn a_name_that_is_no_planted_bug_is_found() {
        assert!(missing("planted: `NoSync`").is_empty());
        let found = missing("planted: `NoSync`, planted: `Sync`");
        assert_eq!(found, ["there is no planted bug 'Sync'"]);
    }

    #[test]
    fn a_name_that_is_no_test_is_found() {
        for name in ["a/tests/b.rs::gone", "a/tests/c.rs::holds", "helper", "gone", ""] {
            let page = format!("test: `holds`, test: `{name}`");
            assert_eq!(missing(&page), [format!("there is no test '{name}'")]);
        }
    }
}
