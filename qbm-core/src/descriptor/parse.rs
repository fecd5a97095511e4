//! From text to a valid [`Descriptor`].
//!
//! In this order: the text as such, its JSON, the version, the names of all members, and then
//! their values from the top down. The first rule that is broken is the one reported.

use super::error::{Fault, Position};
use super::json::{self, Node};
use super::member::*;
use super::reader::Reader;
use super::value::{Object, unsigned};
use super::{Descriptor, DescriptorError, MAX_DESCRIPTOR_BYTES, shape};

impl Descriptor {
    /// Reads a descriptor.
    ///
    /// # Errors
    ///
    /// The first rule of docs/format.md that `text` breaks.
    pub fn parse(text: &[u8]) -> Result<Self, DescriptorError> {
        let text = check_encoding(text)?;
        read(text).map_err(|fault| fault.locate(text))
    }
}

/// `bytes` as text of a length that a descriptor may have.
fn check_encoding(bytes: &[u8]) -> Result<&str, DescriptorError> {
    let error = |position, what: String| DescriptorError { position, member: String::new(), what };
    if bytes.len() > MAX_DESCRIPTOR_BYTES {
        let what =
            format!("has {} bytes, and a descriptor at most {MAX_DESCRIPTOR_BYTES}", bytes.len());
        return Err(error(Position::START, what));
    }
    if bytes.starts_with("\u{feff}".as_bytes()) {
        return Err(error(Position::START, "begins with a byte order mark".to_owned()));
    }
    std::str::from_utf8(bytes).map_err(|fault| {
        let valid = &bytes[..fault.valid_up_to()];
        let valid = std::str::from_utf8(valid).expect("the error says that it is valid");
        error(Position::after(valid), "is not UTF-8".to_owned())
    })
}

fn read(text: &str) -> Result<Descriptor, Fault> {
    let document = json::read(text)?;
    // Before anything else: in another version all members may mean something else.
    check_version(&document)?;
    let original = shape::DOCUMENT.sift(&document)?;
    let descriptor = Object::of(&document)?
        .required(ROOT, |root| Reader::default().descriptor(&Object::of(root)?))?;
    Ok(Descriptor { original, ..descriptor })
}

fn check_version(document: &Node<'_>) -> Result<(), Fault> {
    Object::of(document)?.required(ROOT, |root| {
        Object::of(root)?.required(VERSION, |version| match unsigned(version)? {
            1 => Ok(()),
            other => {
                let what = format!("is {other}, and this program knows version 1 only");
                Err(Fault::new(version.at, what))
            }
        })
    })
}
