//! What the operator allows beyond the image's directory.

use std::env;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::name::{self, Name};
use super::refused;

/// The allow file of the machine.
const SYSTEM_FILE: &str = "/etc/qbm/allow";

/// The most bytes of an allow file that are read.
const MAX_BYTES: u64 = 1 << 20;

/// The absolute names, and addresses of servers, that descriptors may use.
///
/// # Entries
///
/// An entry is an absolute path. Names match it by their text, part by part:
///
/// * The very name of an entry is opened as if the operator had given it: symbolic links are
///   followed, and it may be a regular file or a block device. LVM volumes such as `/dev/vg/lv`
///   are symbolic links, so each volume wants an entry of its own.
/// * A name beneath an entry is opened beneath that directory as beneath the image's own: what
///   lies in it may belong to others, so no symbolic link is followed. Block devices may be used.
///
/// * An address such as `nbd+unix:///?socket=/run/disk.sock` allows itself, letter by letter. This crate
///   connects to nothing; [`allows_address`](Self::allows_address) is for those that do.
///
/// # Allow files
///
/// `/etc/qbm/allow` and `qbm/allow` in the user's configuration folder (`$XDG_CONFIG_HOME`, or
/// `~/.config`) hold an entry on each line. Empty lines, and those that start with `#`, say
/// nothing. A file that others can write counts for nothing.
#[derive(Clone, Debug, Default)]
pub struct GatePolicy {
    /// Invariant: absolute.
    entries: Vec<PathBuf>,
    /// Addresses of servers, for whoever can connect to them.
    addresses: Vec<String>,
    /// The allow files that were looked at, to be named in a refusal.
    files: Vec<PathBuf>,
}

impl GatePolicy {
    /// Allows nothing beyond the image's directory.
    pub fn closed() -> Self {
        Self::default()
    }

    /// Allows what the allow files of the machine and the user say.
    ///
    /// A file that cannot be used allows nothing; why is in the second value, an error each.
    pub fn from_allow_files() -> (Self, Vec<io::Error>) {
        let mut policy = Self::closed();
        let mut errors = Vec::new();
        let user = user_file(|name| env::var_os(name));
        for file in [Some(PathBuf::from(SYSTEM_FILE)), user].into_iter().flatten() {
            errors.extend(policy.read_allow_file(&file).err());
        }
        (policy, errors)
    }

    /// Allows `path`, and if it is a directory what is beneath it, as `--allow-path` does.
    /// A relative path counts from the current directory.
    ///
    /// # Errors
    ///
    /// If the path is empty, or leads through a `..` that cannot be resolved.
    pub fn allow(&mut self, path: &Path) -> io::Result<()> {
        if let Some(address) = path.to_str().filter(|text| is_address(text)) {
            self.addresses.push(address.to_owned());
            return Ok(());
        }
        let mut entry = std::path::absolute(path)?;
        if entry.components().any(|part| part == Component::ParentDir) {
            entry = entry.canonicalize()?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Allows what the allow file `file` says; nothing if there is no such file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, belongs to somebody else than root and the user of this
    /// process, can be written by group or others, or has a line that is not an absolute path.
    /// Then it allows nothing.
    pub fn read_allow_file(&mut self, file: &Path) -> io::Result<()> {
        self.files.push(file.to_owned());
        let in_file =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(file);
        let entries = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.and_then(|opened| read_entries(&opened)).map_err(in_file)?,
        };
        for entry in entries {
            match entry {
                Entry::Path(path) => self.entries.push(path),
                Entry::Address(address) => self.addresses.push(address),
            }
        }
        Ok(())
    }

    /// Whether descriptors may name the server at `address`.
    pub fn allows_address(&self, address: &str) -> bool {
        self.addresses.iter().any(|allowed| allowed == address)
    }

    /// The entry that allows the absolute `name`. The name itself goes before a directory.
    pub(crate) fn entry_for(&self, name: &Path) -> Option<&Path> {
        let entries = || self.entries.iter().map(PathBuf::as_path);
        entries().find(|entry| *entry == name).or_else(|| entries().find(|e| name.starts_with(e)))
    }

    /// What would allow the absolute `name`.
    pub(crate) fn advice(&self, name: &Path) -> String {
        let name = name.display();
        let mut advice = format!("--allow-path '{name}' would allow it");
        if !self.files.is_empty() {
            let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
            advice += &format!(", or the line `{name}` in {}", files.join(" or "));
        }
        advice
    }
}

fn user_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("qbm/allow"))
}

/// A line of an allow file.
enum Entry {
    Path(PathBuf),
    Address(String),
}

/// Whether `text` is the address of a server, and not a path.
fn is_address(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '+';
    text.split_once("://")
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(plain))
}

fn read_entries(file: &File) -> io::Result<Vec<Entry>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(refused("ignored: it is not a regular file"));
    }
    let us = rustix::process::geteuid().as_raw();
    if ![0, us].contains(&metadata.uid()) {
        return Err(refused(format!("ignored: it belongs to user {}", metadata.uid())));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(refused("ignored: others than its owner can write it; chmod go-w"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(refused(format!("ignored: it is longer than {MAX_BYTES} bytes")));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if is_address(line) {
            entries.push(Entry::Address(line.to_owned()));
            continue;
        }
        let plain = line.strip_suffix('/').unwrap_or(line);
        match name::parse(plain) {
            Ok(Name::Absolute(entry)) => entries.push(Entry::Path(entry.to_owned())),
            _ => {
                let number = index + 1;
                return Err(refused(format!("ignored: line {number} is not an absolute path")));
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_allow_file_is_in_the_configuration_folder() {
        let file = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v);
            user_file(|name| find(name).map(OsString::from))
        };
        let home = ("HOME", "/home/u");
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(file(&[home]), expected("/home/u/.config/qbm/allow"));
        assert_eq!(file(&[home, ("XDG_CONFIG_HOME", "/x")]), expected("/x/qbm/allow"));
        let relative = ("XDG_CONFIG_HOME", "x");
        assert_eq!(file(&[home, relative]), expected("/home/u/.config/qbm/allow"));
        assert_eq!(file(&[relative]), None);
    }

    #[test]
    fn an_address_is_allowed_letter_by_letter() {
        let mut policy = GatePolicy::closed();
        policy.allow(Path::new("nbd+unix:///?socket=/run/a")).unwrap();
        assert!(policy.allows_address("nbd+unix:///?socket=/run/a"));
        for other in ["nbd+unix:///?socket=/run/a2", "nbd+unix:///?socket=/run/", "nbd://run"] {
            assert!(!policy.allows_address(other), "{other}");
        }
        assert!(policy.entry_for(Path::new("/run/a")).is_none());
    }

    #[test]
    fn an_entry_matches_whole_parts_of_a_name() {
        let mut policy = GatePolicy::closed();
        policy.allow(Path::new("/srv/images")).unwrap();
        policy.allow(Path::new("/srv/images/deep/../deep.raw")).unwrap_err();
        policy.allow(Path::new("")).unwrap_err();
        let allows = |name: &str| policy.entry_for(Path::new(name)).is_some();
        assert!(allows("/srv/images") && allows("/srv/images/a") && allows("/srv/images/a/b"));
        assert!(!allows("/srv") && !allows("/srv/images2") && !allows("/srv/image"));
    }
}
