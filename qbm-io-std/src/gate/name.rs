//! The text of a name from a descriptor.

use std::io;
use std::path::Path;

use super::refused;

/// The longest path that the kernel takes, in bytes (`PATH_MAX` without its terminator).
const MAX_BYTES: usize = 4095;

/// A name in its plain form: no `.`, `..` or empty part, no control character, no protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// In the image's directory or below.
    Beneath(&'a str),
    /// From the root.
    Absolute(&'a Path),
}

/// Checks the text of `name`; no file is looked at.
pub(crate) fn parse(name: &str) -> io::Result<Name<'_>> {
    if name.is_empty() {
        return Err(refused("the name is empty"));
    }
    if name.len() > MAX_BYTES {
        let length = name.len();
        return Err(refused(format!("a name of {length} bytes; at most {MAX_BYTES} are possible")));
    }
    if name.chars().any(char::is_control) {
        return Err(refused("the name has control characters"));
    }
    if let Some(protocol) = protocol(name) {
        return Err(refused(format!(
            "`{protocol}:` would be a protocol, and only files are opened"
        )));
    }
    let absolute = name.strip_prefix('/');
    for part in absolute.unwrap_or(name).split('/') {
        match part {
            ".." => return Err(refused(parent_text(absolute.is_some()))),
            "" | "." => return Err(refused("a part of the name is empty or `.`")),
            _ => {}
        }
    }
    Ok(if absolute.is_some() { Name::Absolute(Path::new(name)) } else { Name::Beneath(name) })
}

fn parent_text(absolute: bool) -> &'static str {
    if absolute {
        "`..` is not followed; write the name without it"
    } else {
        "`..` leads out of the image's directory; an absolute name is possible where the operator \
         allows it"
    }
}

/// The word before a first `:`, where it looks like a protocol of QEMU: `json:`, `nbd:`, `fd:`.
/// A name with a time in it, such as `2026-10-01T01:00:00Z.raw`, does not.
fn protocol(name: &str) -> Option<&str> {
    let (word, _) = name.split_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-_".contains(c);
    (word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(plain)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        for name in ["disk.raw", "a b", "sub/disk.raw", "..a", "ä%2e%2e", "2026-10-01T01:00:00Z"] {
            assert_eq!(parse(name).unwrap(), Name::Beneath(name));
        }
        assert_eq!(parse("/dev/vg/lv").unwrap(), Name::Absolute(Path::new("/dev/vg/lv")));
        assert_eq!(parse("/a:b").unwrap(), Name::Absolute(Path::new("/a:b")));
    }

    #[test]
    fn a_name_that_is_not_plain_is_refused() {
        let long = "a".repeat(4096);
        for name in [
            "",
            "/",
            ".",
            "..",
            "a/..",
            "a/../b",
            "/a/../b",
            "a//b",
            "a/",
            "./a",
            "/./a",
            "//a",
            "a\0b",
            "a\nb",
            "\u{1b}[2J",
            "a\u{85}",
            "json:{}",
            "nbd://127.0.0.1",
            "nbd+unix:x",
            "fd:3",
            "host_device:/dev/sda",
            &long,
        ] {
            let error = parse(name).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}");
        }
    }
}
