//! JSON with places: the text of a descriptor as a tree of values that know where they stand.
//!
//! This reads RFC 8259 strictly and refuses what it leaves open: a second member of the same name,
//! half a surrogate pair, a name with control characters. The usual parsers keep neither the
//! places, which an error about a member's meaning needs, nor the duplicates, of which they
//! silently take the last.
//!
//! Recursion is bounded by [`MAX_DEPTH`], and memory by the length of the text.

use std::borrow::Cow;

use super::MAX_DEPTH;
use super::error::{Fault, shown};

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Node<'t> {
    /// The byte of the text at which it starts.
    pub(super) at: usize,
    /// The part of the text that is the value.
    pub(super) text: &'t str,
    /// What it is.
    pub(super) value: Value<'t>,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    /// Any number of JSON; its digits are [`Node::text`], so that none is lost to rounding.
    Number,
    String(Cow<'t, str>),
    Array(Box<[Node<'t>]>),
    Object(Box<[Member<'t>]>),
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct Member<'t> {
    /// The byte of the text at which the name starts.
    pub(super) at: usize,
    /// Unique in its object, and without control characters.
    pub(super) name: Cow<'t, str>,
    pub(super) node: Node<'t>,
}

impl Value<'_> {
    /// The kind of value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Reads `text`, which is one value and white space.
pub(super) fn read(text: &str) -> Result<Node<'_>, Fault> {
    let mut cursor = Cursor { text, at: 0, depth: 0 };
    cursor.skip_space();
    let node = cursor.node()?;
    cursor.skip_space();
    match cursor.peek() {
        None => Ok(node),
        Some(_) => Err(cursor.expected("the end of the text")),
    }
}

struct Cursor<'t> {
    text: &'t str,
    /// Invariant: at most the length of `text`, and between two characters.
    at: usize,
    /// Objects and arrays around this place.
    depth: usize,
}

impl<'t> Cursor<'t> {
    /// Reads a value; white space before it has been skipped.
    fn node(&mut self) -> Result<Node<'t>, Fault> {
        let at = self.at;
        let value = match self.peek() {
            Some('{') => self.object()?,
            Some('[') => self.array()?,
            Some('"') => Value::String(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { at, text: &self.text[at..self.at], value })
    }

    fn object(&mut self) -> Result<Value<'t>, Fault> {
        self.enter()?;
        let mut members = Vec::new();
        if !self.skip('}') {
            loop {
                members.push(self.member()?);
                self.skip_space();
                if self.skip('}') {
                    break;
                }
                self.require(',', "',' or '}'")?;
                self.skip_space();
            }
        }
        self.depth -= 1;
        refuse_duplicates(&members)?;
        Ok(Value::Object(members.into()))
    }

    fn member(&mut self) -> Result<Member<'t>, Fault> {
        let at = self.at;
        if self.peek() != Some('"') {
            return Err(self.expected("a member's name in quotes"));
        }
        let name = self.string()?;
        if name.chars().any(char::is_control) {
            return Err(Fault::new(at, "a name must not have control characters").within(&name));
        }
        let node = self.value_of_member().map_err(|fault| fault.within(&name))?;
        Ok(Member { at, name, node })
    }

    fn value_of_member(&mut self) -> Result<Node<'t>, Fault> {
        self.skip_space();
        self.require(':', "':'")?;
        self.skip_space();
        self.node()
    }

    fn array(&mut self) -> Result<Value<'t>, Fault> {
        self.enter()?;
        let mut nodes = Vec::new();
        if !self.skip(']') {
            loop {
                nodes.push(self.node().map_err(|fault| fault.within_element(nodes.len()))?);
                self.skip_space();
                if self.skip(']') {
                    break;
                }
                self.require(',', "',' or ']'")?;
                self.skip_space();
            }
        }
        self.depth -= 1;
        Ok(Value::Array(nodes.into()))
    }

    /// Goes past an opening bracket and the white space after it.
    fn enter(&mut self) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::new(self.at, format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// Reads a string that starts here. Borrows from the text as long as there is no escape in it.
    fn string(&mut self) -> Result<Cow<'t, str>, Fault> {
        let start = self.at;
        self.at += 1;
        let mut string = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let special = |c| matches!(c, '"' | '\\' | '\0'..='\x1f');
            let plain = rest.find(special).unwrap_or(rest.len());
            string += &rest[..plain];
            self.at += plain;
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some('\\') => string.to_mut().push(self.escape()?),
                Some(control) => {
                    let what = format!("{control:?} must not stand in a string unescaped");
                    return Err(Fault::new(self.at, what));
                }
                None => return Err(Fault::new(start, "the string has no end")),
            }
        }
    }

    /// Reads an escape sequence that starts here.
    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        self.at += 1;
        let Some(kind) = self.peek() else {
            return Err(Fault::new(start, "the string has no end"));
        };
        self.at += kind.len_utf8();
        match kind {
            '"' | '\\' | '/' => Ok(kind),
            'b' => Ok('\u{8}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'u' => self.unicode_escape(start),
            _ => Err(Fault::new(start, "JSON has no such escape")),
        }
    }

    /// Reads the digits of a `\u` escape that began at `start`, and its second half if it has one.
    fn unicode_escape(&mut self, start: usize) -> Result<char, Fault> {
        let mut units = vec![self.code_unit(start)?];
        if (0xd800..0xdc00).contains(&units[0]) && self.rest().starts_with("\\u") {
            let second = self.at;
            self.at += 2;
            units.push(self.code_unit(second)?);
        }
        let mut decoded = char::decode_utf16(units);
        match (decoded.next(), decoded.next()) {
            (Some(Ok(character)), None) => Ok(character),
            _ => Err(Fault::new(start, "the escape is half of a surrogate pair")),
        }
    }

    /// Reads four hexadecimal digits, for the escape that began at `start`.
    fn code_unit(&mut self, start: usize) -> Result<u16, Fault> {
        let digits = self.rest().get(..4);
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits =
            digits.ok_or_else(|| Fault::new(start, "\\u needs four hexadecimal digits"))?;
        self.at += 4;
        Ok(u16::from_str_radix(digits, 16).expect("four hexadecimal digits fit"))
    }

    fn number(&mut self) -> Result<Value<'t>, Fault> {
        self.skip('-');
        if !self.skip('0') {
            self.digits()?;
        }
        if self.skip('.') {
            self.digits()?;
        }
        if self.skip('e') || self.skip('E') {
            let _sign = self.skip('+') || self.skip('-');
            self.digits()?;
        }
        Ok(Value::Number)
    }

    /// Goes past at least one digit.
    fn digits(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let count = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if count == 0 {
            return Err(self.expected("a digit"));
        }
        self.at += count;
        Ok(())
    }

    fn word(&mut self) -> Result<Value<'t>, Fault> {
        let words =
            [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
        for (word, value) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.expected("a value"))
    }

    fn skip_space(&mut self) {
        let rest = self.rest().trim_start_matches([' ', '\t', '\n', '\r']);
        self.at = self.text.len() - rest.len();
    }

    /// Goes past `wanted` if it is here.
    fn skip(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn require(&mut self, wanted: char, expected: &str) -> Result<(), Fault> {
        if self.skip(wanted) { Ok(()) } else { Err(self.expected(expected)) }
    }

    /// The fault of having something else than `what` here.
    fn expected(&self, what: &str) -> Fault {
        match self.peek() {
            Some(found) => Fault::new(self.at, format!("expected {what}, found {found:?}")),
            None => Fault::new(self.at, format!("expected {what}, found the end of the text")),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }
}

/// Refuses the first member whose name an earlier one has.
fn refuse_duplicates(members: &[Member<'_>]) -> Result<(), Fault> {
    let mut by_name: Vec<&Member<'_>> = members.iter().collect();
    // Stable, so that of two equal names the later one stays the later one.
    by_name.sort_by_key(|member| &member.name);
    let again = by_name.windows(2).filter(|pair| pair[0].name == pair[1].name).map(|pair| pair[1]);
    match again.min_by_key(|member| member.at) {
        None => Ok(()),
        Some(member) => {
            let what = format!("the name {} is there already", shown(&member.name));
            Err(Fault::new(member.at, what).within(&member.name))
        }
    }
}
