//! The text files of the project.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::process::{command, output_of, root};

/// The text files by their path from the root of the tree, with `/` between its parts.
pub(super) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Reads the files that git knows, and those it would add. What is not UTF-8 is no text.
    ///
    /// # Errors
    ///
    /// If this is no git work tree, or a file cannot be read.
    pub(super) fn read() -> Result<Self> {
        let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let paths = output_of(command("git").args(listing))?;
        let mut files = BTreeMap::new();
        for path in paths.split_terminator('\0') {
            let full = root().join(path);
            // Removed, and not yet from git's index.
            if !full.exists() {
                continue;
            }
            let bytes = std::fs::read(&full).with_context(|| path.to_owned())?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self(files))
    }

    /// A tree of these files, to test a check on.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self(files.iter().map(owned).collect())
    }

    /// Path and text of every file.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Path and text of every file whose name ends in `.EXTENSION`.
    pub(super) fn files_with(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let ending = format!(".{extension}");
        self.files().filter(move |(path, _)| path.ends_with(&ending))
    }

    /// The text of the file at `path`.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Whether `path` is a file, or a folder with a file in it, or the root: the empty path.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        let is_in_folder = |file: &String| file.starts_with(&folder);
        path.is_empty() || self.0.contains_key(path) || self.0.keys().any(is_in_folder)
    }
}
