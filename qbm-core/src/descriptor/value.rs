//! Typed values out of the tree: each function reads one kind, or says what it has to be.

use std::str::FromStr;

use super::MAX_BLOCK;
use super::error::{Fault, shown};
use super::json::{Member, Node, Value};
use crate::host::{Id, Timestamp};
use crate::units::{Granularity, MAX_SIZE};

/// The last millisecond of the year 9999, past which times have no common notation.
const MAX_TIMESTAMP: u64 = 253_402_300_799_999;

/// An object to take members from.
pub(super) struct Object<'n, 't> {
    at: usize,
    /// The members, in the order of the text.
    pub(super) members: &'n [Member<'t>],
}

impl<'n, 't> Object<'n, 't> {
    /// The object that `node` is.
    pub(super) fn of(node: &'n Node<'t>) -> Result<Self, Fault> {
        match &node.value {
            Value::Object(members) => Ok(Self { at: node.at, members }),
            _ => Err(must_be("an object", node)),
        }
    }

    /// The member `name`, as `read` reads it.
    pub(super) fn required<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'n Node<'t>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let missing = || Fault::new(self.at, "is missing").within(name);
        self.optional(name, read)?.ok_or_else(missing)
    }

    /// The member `name`, as `read` reads it, if it is there.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'n Node<'t>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let member = self.members.iter().find(|member| member.name == name);
        member.map(|member| read(&member.node).map_err(|fault| fault.within(name))).transpose()
    }

    /// Refuses the member `name` if it is there; `what` is wrong with it then.
    pub(super) fn refuse(&self, name: &str, what: &str) -> Result<(), Fault> {
        match self.members.iter().find(|member| member.name == name) {
            None => Ok(()),
            Some(member) => Err(Fault::new(member.at, what).within(name)),
        }
    }
}

/// The fault of `node` not being `what`.
pub(super) fn must_be(what: &str, node: &Node<'_>) -> Fault {
    let found = match &node.value {
        Value::String(text) => shown(text),
        Value::Number => node.text.chars().take(32).collect(),
        Value::Bool(value) => value.to_string(),
        other => other.kind().to_owned(),
    };
    Fault::new(node.at, format!("must be {what}, and is {found}"))
}

/// A string without control characters.
pub(super) fn string<'n>(node: &'n Node<'_>) -> Result<&'n str, Fault> {
    match &node.value {
        Value::String(text) if text.chars().any(char::is_control) => {
            Err(must_be("a string without control characters", node))
        }
        Value::String(text) => Ok(text),
        _ => Err(must_be("a string", node)),
    }
}

/// A boolean.
pub(super) fn boolean(node: &Node<'_>) -> Result<bool, Fault> {
    match node.value {
        Value::Bool(value) => Ok(value),
        _ => Err(must_be("true or false", node)),
    }
}

/// An integer from 0 to 2^64 - 1, without sign, fraction or exponent.
pub(super) fn unsigned(node: &Node<'_>) -> Result<u64, Fault> {
    integer(node, "an integer from 0 to 18446744073709551615")
}

/// An integer from 0 to `most`.
pub(super) fn at_most(most: u64) -> impl Fn(&Node<'_>) -> Result<u64, Fault> {
    move |node| {
        let what = format!("an integer from 0 to {most}");
        let value = integer(node, &what)?;
        if value <= most { Ok(value) } else { Err(must_be(&what, node)) }
    }
}

/// A size in bytes that a disk can have.
pub(super) fn size(node: &Node<'_>) -> Result<u64, Fault> {
    at_most(MAX_SIZE)(node)
}

/// A process id.
pub(super) fn process_id(node: &Node<'_>) -> Result<u32, Fault> {
    integer(node, "an integer from 0 to 4294967295")
}

/// A time in milliseconds.
pub(super) fn timestamp(node: &Node<'_>) -> Result<Timestamp, Fault> {
    at_most(MAX_TIMESTAMP)(node).map(Timestamp)
}

/// Nanoseconds before or after the epoch: the one kind of number that may be negative.
pub(super) fn nanoseconds(node: &Node<'_>) -> Result<i64, Fault> {
    integer(node, "an integer from -9223372036854775808 to 9223372036854775807")
}

fn integer<T: FromStr>(node: &Node<'_>, what: &str) -> Result<T, Fault> {
    match node.value {
        Value::Number => node.text.parse().map_err(|_| must_be(what, node)),
        _ => Err(must_be(what, node)),
    }
}

/// A granularity in bytes.
pub(super) fn granularity(node: &Node<'_>) -> Result<Granularity, Fault> {
    granularity_to(Granularity::MAX.bytes(), node)
}

/// What one digest of a point is taken of, in bytes.
pub(super) fn block(node: &Node<'_>) -> Result<Granularity, Fault> {
    granularity_to(MAX_BLOCK, node)
}

fn granularity_to(most: u64, node: &Node<'_>) -> Result<Granularity, Fault> {
    let bytes = integer(node, "").ok().filter(|bytes| *bytes <= most);
    let granularity = bytes.and_then(Granularity::from_bytes);
    granularity.ok_or_else(|| must_be(&format!("a power of two from 512 to {most}"), node))
}

/// An id.
pub(super) fn id(node: &Node<'_>) -> Result<Id, Fault> {
    let id = match &node.value {
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    id.ok_or_else(|| must_be("32 lower-case hexadecimal digits in a string", node))
}

/// A BLAKE3 digest.
pub(super) fn digest(node: &Node<'_>) -> Result<String, Fault> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match &node.value {
        Value::String(text) if text.len() == 64 && text.bytes().all(is_digit) => {
            Ok(text.clone().into_owned())
        }
        _ => Err(must_be("64 lower-case hexadecimal digits in a string", node)),
    }
}

/// What `read` reads, or null.
pub(super) fn nullable<T>(
    node: &Node<'_>,
    read: fn(&Node<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    match node.value {
        Value::Null => Ok(None),
        _ => read(node).map(Some),
    }
}

/// The value that goes with the word that `node` is.
pub(super) fn word<T: Copy>(node: &Node<'_>, words: &[(&str, T)]) -> Result<T, Fault> {
    let found = match &node.value {
        Value::String(text) => words.iter().find(|(word, _)| word == text),
        _ => None,
    };
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(word, _)| shown(word)).collect();
        must_be(&words.join(" or "), node)
    })
}
