//! Packages from the backports of this machine's Debian release.
//!
//! The parts of QEMU must be of one version. Where its tools come from the backports, an emulator of the
//! release itself would remove them. The machine's own sources say where packages are to be had; a
//! copy of them beside the build, with the suite of the backports added, is used for this alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{as_root, install_one};
use crate::process;

/// Where the machine keeps its sources.
const SOURCES: &str = "/etc/apt/sources.list.d";

/// Installs `package` and what it needs from there.
///
/// # Errors
///
/// If the release has no backports, or they do not have it.
pub(super) fn install(package: &str) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.context("this release has no code name")?;
    let folder = process::root().join("target/apt");
    write_sources(Path::new(SOURCES), &folder, codename)?;
    let parts = format!("Dir::Etc::sourceparts={}", folder.display());
    process::run(as_root("apt-get")?.args(["-o", &parts, "update"]))?;
    let suite = format!("{codename}-backports");
    install_one(package, &["-o", &parts, "--target-release", &suite])
}

/// Copies the sources in `from` to `to`, each beside one of its backports.
fn write_sources(from: &Path, to: &Path, codename: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { continue };
        if extension == "sources" {
            let text = fs::read_to_string(&path)?;
            let name = |suffix| format!("{}{suffix}.sources", stem.display());
            fs::write(to.join(name("")), &text)?;
            fs::write(to.join(name("-backports")), backports_of(&text, codename))?;
        }
    }
    Ok(())
}

/// The stanzas of `text` that name the release `codename`, with its backports in its place.
fn backports_of(text: &str, codename: &str) -> String {
    let suites = |line: &str| line.strip_prefix("Suites:").map(str::to_owned);
    let is_release = |stanza: &&str| {
        let suites = stanza.lines().find_map(suites).unwrap_or_default();
        suites.split_whitespace().any(|suite| suite == codename)
    };
    let mut backports = String::new();
    for stanza in text.split("\n\n").filter(is_release) {
        for line in stanza.lines() {
            match suites(line) {
                Some(_) => backports.push_str(&format!("Suites: {codename}-backports")),
                None => backports.push_str(line),
            }
            backports.push('\n');
        }
        backports.push('\n');
    }
    backports
}

#[cfg(test)]
mod tests {
    use super::backports_of;

    #[test]
    fn the_backports_are_those_of_the_release_and_of_nothing_else() {
        let text = "Types: deb\nURIs: A\nSuites: bookworm bookworm-updates\nSigned-By: K\n\n\
                    Types: deb\nURIs: B\nSuites: bookworm-security\n";
        let expected = "Types: deb\nURIs: A\nSuites: bookworm-backports\nSigned-By: K\n\n";
        assert_eq!(backports_of(text, "bookworm"), expected);
    }
}
