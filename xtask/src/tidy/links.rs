//! The relative links of Markdown files lead to something.

use super::Finding;
use super::tree::Tree;

/// Links to a file of the tree that is not there, or to a heading that its file does not have.
pub(super) fn relative_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files_with("md") {
        for (line, target) in links_of(text) {
            if !is_external(target) && !leads_somewhere(tree, path, target) {
                let what = format!("the link to '{target}' leads nowhere");
                findings.push(Finding { path: path.to_owned(), line, what });
            }
        }
    }
    findings
}

/// The targets of `[text](target)` with their lines, outside of fenced blocks and code spans.
fn links_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().flat_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        // What stands between an odd and an even backtick is code.
        let prose = if is_fenced || is_fence { "" } else { line };
        prose.split('`').step_by(2).flat_map(targets_of).map(move |target| (index + 1, target))
    })
}

fn targets_of(prose: &str) -> impl Iterator<Item = &str> {
    let after_opening = prose.split("](").skip(1);
    // A title may follow the target, after a space.
    after_opening.filter_map(|rest| rest.split(')').next()?.split(' ').next())
}

fn is_external(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

/// Whether `target`, in the file at `path`, is a file or folder of the tree, and its heading too.
fn leads_somewhere(tree: &Tree, path: &str, target: &str) -> bool {
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let full = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
    let Some(full) = full else { return false };
    if heading.is_empty() || !full.ends_with(".md") {
        return tree.has(&full);
    }
    tree.text(&full).is_some_and(|text| {
        text.lines().filter_map(|line| line.strip_prefix('#')).any(|line| slug(line) == heading)
    })
}

/// `link` from the file at `path`, or `None` where it leaves the tree.
fn resolve(path: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// How a heading is named in a link: lower case, hyphens for spaces, punctuation left out.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of docs/page.md with a link that leads nowhere.
    fn broken(page: &str) -> Vec<usize> {
        let tree = Tree::of(&[("docs/page.md", page), ("README.md", "# A `b`, and c\n")]);
        relative_links(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_link_to_a_file_a_folder_or_a_heading_is_fine() {
        assert_eq!(broken("[a](../README.md) [b](page.md) [c](../docs) [d](..)"), []);
        assert_eq!(broken("[a](../README.md#a-b-and-c)\n## Here\n[b](#here)"), []);
        assert_eq!(broken("[a](https://example.org/gone) [b](mailto:a@example.org)"), []);
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        assert_eq!(broken("text\n[a](gone.md)"), [2]);
        assert_eq!(broken("[a](../README.md#gone)\n[b](#gone)"), [1, 2]);
        assert_eq!(broken("[a](../../README.md)"), [1]);
    }

    #[test]
    fn what_looks_like_a_link_in_code_is_none() {
        assert_eq!(broken("`array[0](gone)`\n```\n[a](gone.md)\n```\n"), []);
        assert_eq!(broken("`code` [a](gone.md)\n"), [1]);
    }
}
