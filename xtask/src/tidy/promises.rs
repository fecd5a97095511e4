//! The tests that the documentation names exist.
//!
//! A page such as docs/guarantees.md names the tests that hold a promise, each after a label:
//!
//! ```text
//! * test: `acknowledged_marks_survive_every_crash`
//! * test: `qbm-sim/tests/crash.rs::acknowledged_marks_survive_every_crash`, for the simulator
//! ```
//!
//! The path, from the root of the tree, says which test is meant where several have the name.

use super::Finding;
use super::tree::Tree;

/// What stands before a test's name.
const LABEL: &str = "test: `";

/// Names after the label, in any Markdown file, that no test has.
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

/// The names in backticks, each right after a label.
fn names_on(line: &str) -> impl Iterator<Item = &str> {
    line.split(LABEL).skip(1).filter_map(|rest| rest.split('`').next())
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
        let tree = Tree::of(&[("docs/guarantees.md", page), ("a/tests/b.rs", CODE)]);
        named_tests(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_test_that_exists_is_fine() {
        assert!(missing("P1, test: `holds`: not after `kill -9` only").is_empty());
        assert!(missing("test: `a/tests/b.rs::holds`, test: `holds`").is_empty());
        assert!(missing("`no::list` and no label").is_empty());
    }

    #[test]
    fn a_name_that_is_no_test_is_found() {
        for name in ["a/tests/b.rs::gone", "a/tests/c.rs::holds", "helper", "gone", ""] {
            let page = format!("test: `holds`, test: `{name}`");
            assert_eq!(missing(&page), [format!("there is no test '{name}'")]);
        }
    }
}
