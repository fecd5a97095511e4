//! Where one message ends and the next begins.
//!
//! A message is a JSON value, and may span lines or share one. This looks at no more of JSON than
//! that takes, so that a message is cut off as soon as it is too long or too deep.

use crate::limits::MAX_DEPTH;

/// Why a message cannot be read. What follows on its line is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is longer than the limit.
    #[error("JSON message is longer than {0} bytes")]
    TooLong(usize),
    /// It has more than [`MAX_DEPTH`] objects and arrays within each other.
    #[error("JSON nesting is deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// Cuts bytes into messages.
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    /// The message so far. Invariant: at most `limit` bytes.
    message: Vec<u8>,
    depth: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Value,
    String,
    /// After a backslash in a string.
    Escape,
    /// In the line of a broken message.
    Skipped,
}

impl Framer {
    /// A framer of messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, message: Vec::new(), depth: 0, place: Place::Value }
    }

    /// Takes the next byte; returns the message that it completes, if it does.
    pub fn push(&mut self, byte: u8) -> Option<Result<Vec<u8>, Broken>> {
        if self.place == Place::Skipped {
            if byte == b'\n' {
                self.place = Place::Value;
            }
            return None;
        }
        if self.message.is_empty() && byte.is_ascii_whitespace() {
            return None;
        }
        if self.message.len() == self.limit {
            return Some(Err(self.skip(byte, Broken::TooLong(self.limit))));
        }
        self.message.push(byte);
        match (self.place, byte) {
            // No string has one: what comes next is a new message.
            (Place::String | Place::Escape, b'\n') => return Some(Ok(self.complete())),
            (Place::String, b'\\') => self.place = Place::Escape,
            (Place::String, b'"') => self.place = Place::Value,
            (Place::String, _) => {}
            (Place::Escape, _) => self.place = Place::String,
            (_, b'"') => self.place = Place::String,
            (_, b'{' | b'[') if self.depth == MAX_DEPTH => {
                return Some(Err(self.skip(byte, Broken::TooDeep)));
            }
            (_, b'{' | b'[') => self.depth += 1,
            (_, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                return (self.depth == 0).then(|| Ok(self.complete()));
            }
            (_, b'\n') if self.depth == 0 => return Some(Ok(self.complete())),
            _ => {}
        }
        None
    }

    fn complete(&mut self) -> Vec<u8> {
        self.depth = 0;
        self.place = Place::Value;
        std::mem::take(&mut self.message)
    }

    fn skip(&mut self, byte: u8, why: Broken) -> Broken {
        drop(self.complete());
        if byte != b'\n' {
            self.place = Place::Skipped;
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> Vec<Result<String, Broken>> {
        let mut framer = Framer::new(100);
        let frames = bytes.iter().filter_map(|byte| framer.push(*byte));
        frames.map(|frame| frame.map(|bytes| String::from_utf8(bytes).unwrap())).collect()
    }

    fn whole(messages: &[&str]) -> Vec<Result<String, Broken>> {
        messages.iter().map(|message| Ok((*message).to_owned())).collect()
    }

    #[test]
    fn messages_may_share_a_line_or_span_some() {
        assert_eq!(told(b" {}{\"a\":[1]}\r\n"), whole(&["{}", "{\"a\":[1]}"]));
        assert_eq!(told(b"{\n\"a\"\n:1\n}"), whole(&["{\n\"a\"\n:1\n}"]));
        assert_eq!(told(b"7\nfoo\n"), whole(&["7\n", "foo\n"]));
    }

    #[test]
    fn braces_and_quotes_in_strings_end_nothing() {
        let message = r#"{"a}":"\"}\\"}"#;
        assert_eq!(told(message.as_bytes()), whole(&[message]));
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_skipped_to_the_end_of_its_line() {
        let deep = [b"[".repeat(MAX_DEPTH + 1), b"x]\n{}".to_vec()].concat();
        assert_eq!(told(&deep), [Err(Broken::TooDeep), Ok("{}".to_owned())]);
        let long = [b"{\"".to_vec(), b"a".repeat(1000), b"\n[]".to_vec()].concat();
        assert_eq!(told(&long), [Err(Broken::TooLong(100)), Ok("[]".to_owned())]);
        let most = [b"[".repeat(MAX_DEPTH), b"]".repeat(MAX_DEPTH)].concat();
        assert_eq!(told(&most).len(), 1);
    }

    #[test]
    fn a_string_that_is_not_closed_ends_with_its_line() {
        assert_eq!(told(b"{\"a\n{}"), whole(&["{\"a\n", "{}"]));
    }
}
