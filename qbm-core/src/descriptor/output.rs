//! JSON to be written, and its text.

use std::fmt::{self, Write};

use super::member;

/// What one level of nesting is indented by.
const INDENT: &str = "    ";

/// A value to be written.
#[derive(Debug)]
pub(super) enum Json {
    String(String),
    /// A text that is JSON already.
    Literal(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A string.
    pub(super) fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// A number or boolean, as it displays.
    pub(super) fn literal(value: impl fmt::Display) -> Self {
        Self::Literal(format!("{value}"))
    }

    /// `value` in a string, or null.
    pub(super) fn string_or_null(value: Option<impl fmt::Display>) -> Self {
        value.map_or_else(|| Self::literal("null"), |value| Self::String(value.to_string()))
    }

    /// The string in the member `file` of an object.
    pub(super) fn file(&self) -> Option<&str> {
        let Self::Object(members) = self else { return None };
        members.iter().find_map(|(name, value)| match value {
            Self::String(file) if name == member::FILE => Some(file.as_str()),
            _ => None,
        })
    }

    /// The member `name` of an object, or the element of an array with this `file`.
    pub(super) fn part(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => {
                members.iter().find(|(own, _)| own == name).map(|(_, value)| value)
            }
            Self::Array(elements) => elements.iter().find(|element| element.file() == Some(name)),
            Self::String(_) | Self::Literal(_) => None,
        }
    }

    /// The text, indented, with a newline at the end.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        self.put_into(&mut text, 0);
        text.push('\n');
        text
    }

    fn put_into(&self, text: &mut String, level: usize) {
        match self {
            Self::String(string) => put_string(text, string),
            Self::Literal(literal) => text.push_str(literal),
            Self::Array(elements) => {
                put_list(text, level, ['[', ']'], elements, |text, element| {
                    element.put_into(text, level + 1);
                });
            }
            Self::Object(members) => {
                put_list(text, level, ['{', '}'], members, |text, (name, value)| {
                    put_string(text, name);
                    text.push_str(": ");
                    value.put_into(text, level + 1);
                });
            }
        }
    }
}

fn put_list<T>(
    text: &mut String,
    level: usize,
    brackets: [char; 2],
    items: &[T],
    put_item: impl Fn(&mut String, &T),
) {
    text.push(brackets[0]);
    for (index, item) in items.iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&INDENT.repeat(level + 1));
        put_item(text, item);
    }
    if !items.is_empty() {
        text.push('\n');
        text.push_str(&INDENT.repeat(level));
    }
    text.push(brackets[1]);
}

/// Appends `string` in quotes; escapes what has to be, and the rest of what does not print.
fn put_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            control if control.is_control() => {
                write!(text, "\\u{:04x}", u32::from(control)).expect("a string takes all");
            }
            plain => text.push(plain),
        }
    }
    text.push('"');
}
