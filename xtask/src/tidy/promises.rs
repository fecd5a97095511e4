//! The tests that the documentation names exist.
//!
//! A page such as docs/guarantees.md names the tests that hold a promise on lines of the form
//!
//! ```text
//! test: `qbm-sim/tests/crash.rs::acknowledged_marks_survive_every_crash`, `xtask/src/main.rs::...`
//! ```
//!
//! that is, the path of a file from the root of the tree, `::`, and the name of a test in it.

use super::Finding;
use super::tree::Tree;

/// What begins a line's list of tests.
const LABEL: &str = "test: `";

/// Names on a `test:` line, in any Markdown file, that no test has.
pub(super) fn named_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files_with("md") {
        for (index, line) in text.lines().enumerate() {
            let missing = names_on(line).filter(|name| !is_test(tree, name));
            findings.extend(missing.map(|name| Finding {
                path: path.to_owned(),
                line: index + 1,
                what: format!("there is no test '{name}'"),
            }));
        }
    }
    findings
}

/// The names in backticks after the label.
fn names_on(line: &str) -> impl Iterator<Item = &str> {
    let list = line.find(LABEL).map_or("", |start| &line[start..]);
    // What stands between an odd and an even backtick is a name.
    list.split('`').skip(1).step_by(2)
}

/// Whether `FILE::TEST` is a function marked as a test in a file of the tree.
fn is_test(tree: &Tree, name: &str) -> bool {
    let Some((path, test)) = name.rsplit_once("::") else { return false };
    let function = format!("fn {test}(");
    tree.text(path).is_some_and(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let place = lines.iter().position(|line| line.starts_with(&function));
        place.is_some_and(|place| has_test_attribute(&lines[..place]))
    })
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
        let tree = Tree::of(&[("docs/guarantees.md", page), ("a/tests/b.rs", CODE)]);
        named_tests(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_test_that_exists_is_fine() {
        assert!(missing("P1, test: `a/tests/b.rs::holds`").is_empty());
        assert!(missing("`no::list` and no label").is_empty());
    }

    #[test]
    fn a_name_that_is_no_test_is_found() {
        for name in ["a/tests/b.rs::gone", "a/tests/c.rs::holds", "a/tests/b.rs::helper", "holds"] {
            let page = format!("test: `a/tests/b.rs::holds`, `{name}`");
            assert_eq!(missing(&page), [format!("there is no test '{name}'")]);
        }
    }
}
