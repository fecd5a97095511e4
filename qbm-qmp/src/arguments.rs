//! Arguments as typed values, refused in QEMU's words.
//!
//! The types say what there is, by `serde`; what `serde` tells of a mismatch is told with the path of
//! the argument, as in `actions[0].data.node`.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// `arguments` as a `T`.
pub(crate) fn parse<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, Refusal> {
    Options { members: arguments, place: String::new(), written: Written::Json }.parse()
}

/// How the values of options are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As JSON has them.
    Json,
    /// As strings, whatever they are: `on` and `off`, and numbers in decimal.
    Text,
}

/// Members of which only the reader knows what they should be: they are parsed part by part.
#[derive(Clone, Debug)]
pub struct Options {
    members: Map<String, Value>,
    /// What the names of members are told with in front, such as `file.`.
    place: String,
    written: Written,
}

impl Options {
    /// These members, at the top.
    pub fn new(members: Map<String, Value>, written: Written) -> Self {
        Self { members, place: String::new(), written }
    }

    /// Takes out the member `name`, as a `T`, if it is there.
    ///
    /// # Errors
    ///
    /// In QEMU's words, if it is none.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(value) = self.members.remove(name) else { return Ok(None) };
        let value = Argument { value, written: self.written };
        T::deserialize(value).map(Some).map_err(|wrong| self.told(wrong.within(name)))
    }

    /// Takes out the member `name`, as a `T`.
    ///
    /// # Errors
    ///
    /// In QEMU's words, if it is none, or not there.
    pub fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Refusal> {
        let found = self.take(name)?;
        found.ok_or_else(|| self.told(Wrong::new(name, Fault::Missing)))
    }

    /// Takes out the member `name`, which has members itself, or is a string.
    ///
    /// # Errors
    ///
    /// In QEMU's words, if it is neither, or not there.
    pub fn need_part(&mut self, name: &str) -> Result<Part, Refusal> {
        match self.members.remove(name) {
            None => Err(self.told(Wrong::new(name, Fault::Missing))),
            Some(Value::String(text)) => Ok(Part::Text(text)),
            Some(Value::Object(members)) => {
                let place = format!("{}{name}.", self.place);
                Ok(Part::Options(Self { members, place, written: self.written }))
            }
            Some(_) => {
                let expected = "object".to_owned();
                Err(self.told(Wrong::new(name, Fault::Type { expected })))
            }
        }
    }

    /// Whether there is a member `name`.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// All members that are left, as a `T`.
    ///
    /// # Errors
    ///
    /// In QEMU's words: which one is missing, unexpected or of the wrong type.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        let value = Argument { value: Value::Object(self.members), written: self.written };
        T::deserialize(value).map_err(|mut wrong| {
            wrong.path.insert_str(0, &self.place);
            Refusal::generic(wrong.to_string())
        })
    }

    /// That all members have been taken out.
    ///
    /// # Errors
    ///
    /// Which one is left.
    pub fn finish(self) -> Result<(), Refusal> {
        let left = self.members.keys().next();
        left.map_or(Ok(()), |name| Err(self.told(Wrong::new(name, Fault::Unexpected))))
    }

    fn told(&self, mut wrong: Wrong) -> Refusal {
        wrong.path.insert_str(0, &self.place);
        Refusal::generic(wrong.to_string())
    }
}

/// A member that may have members itself.
#[derive(Clone, Debug)]
pub enum Part {
    /// A string.
    Text(String),
    /// Members.
    Options(Options),
}

/// What is wrong with which argument.
#[derive(Debug)]
struct Wrong {
    path: String,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Unexpected,
    Missing,
    Type { expected: String },
    Value(String),
    Other(String),
}

impl Wrong {
    fn new(path: &str, fault: Fault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    /// The same, seen from outside of `place`: a member, or an element in brackets.
    fn within(mut self, place: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{place}{joint}{}", self.path);
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.fault {
            Fault::Unexpected => write!(f, "Parameter '{path}' is unexpected"),
            Fault::Missing => write!(f, "Parameter '{path}' is missing"),
            Fault::Type { expected } => {
                write!(f, "Invalid parameter type for '{path}', expected: {expected}")
            }
            Fault::Value(value) => write!(f, "Parameter '{path}' does not accept value '{value}'"),
            Fault::Other(what) => write!(f, "Parameter '{path}': {what}"),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::new("", Fault::Other(what.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string() {
            text if text.starts_with("struct") || text.contains("enum") => "object".to_owned(),
            text if text == "a sequence" => "array".to_owned(),
            text => match text.strip_prefix("a ") {
                Some(name) => name.to_owned(),
                None => "integer".to_owned(),
            },
        };
        Self::new("", Fault::Type { expected })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, _: &'static [&'static str]) -> Self {
        Self::new("", Fault::Value(variant.to_owned()))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::new(field, Fault::Unexpected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(field, Fault::Missing)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(field, Fault::Unexpected)
    }
}

/// An argument, to be made a typed value.
struct Argument {
    value: Value,
    written: Written,
}

impl Argument {
    /// A string in place of another value, read as that by `read`; otherwise what there is.
    fn read(self, expected: &str, read: fn(&str) -> Option<Value>) -> Result<Self, Wrong> {
        let written = self.written;
        match &self.value {
            Value::String(text) if written == Written::Text => match read(text) {
                Some(value) => Ok(Self { value, written }),
                None => Err(Wrong::new("", Fault::Type { expected: expected.to_owned() })),
            },
            _ => Ok(self),
        }
    }
}

fn read_boolean(text: &str) -> Option<Value> {
    match text {
        "on" | "yes" | "true" | "y" => Some(Value::Bool(true)),
        "off" | "no" | "false" | "n" => Some(Value::Bool(false)),
        _ => None,
    }
}

fn read_number(text: &str) -> Option<Value> {
    text.parse::<u64>().ok().map(Value::from)
}

impl<'de> Deserializer<'de> for Argument {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let written = self.written;
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(text) => visitor.visit_string(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Array(elements) => {
                let elements = elements.into_iter().enumerate();
                SeqAccessDeserializer::new(Elements { elements, written }).deserialize_any(visitor)
            }
            Value::Object(members) => {
                let members = Members { rest: members.into_iter(), value: None, written };
                MapAccessDeserializer::new(members).deserialize_any(visitor)
            }
        }
    }

    // That it is null is no way to leave it out.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.value {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            _ => Err(Wrong::new("", Fault::Type { expected: "string".to_owned() })),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.read("boolean", read_boolean)?.deserialize_any(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.read("integer", read_number)?.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Elements {
    elements: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    written: Written,
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        let Some((index, value)) = self.elements.next() else { return Ok(None) };
        let element = seed.deserialize(Argument { value, written: self.written });
        element.map(Some).map_err(|wrong| wrong.within(&format!("[{index}]")))
    }
}

struct Members {
    rest: serde_json::map::IntoIter,
    /// The member whose name was taken last.
    value: Option<(String, Value)>,
    written: Written,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        self.value = self.rest.next();
        let Some((key, _)) = &self.value else { return Ok(None) };
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let (key, value) = self.value.take().expect("a name comes before its value");
        let value = Argument { value, written: self.written };
        seed.deserialize(value).map_err(|wrong| wrong.within(&key))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether they can be read is asked")]
    struct Sample {
        name: String,
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        flag: bool,
        #[serde(default)]
        inner: Vec<Action>,
        #[serde(default)]
        choice: Choice,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "type", content = "data", rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only whether they can be read is asked")]
    enum Action {
        DoIt(Inner),
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether they can be read is asked")]
    struct Inner {
        node: String,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Choice {
        #[default]
        One,
    }

    fn told(value: Value) -> String {
        let Value::Object(arguments) = value else { panic!("an object") };
        match parse::<Sample>(arguments) {
            Ok(_) => String::new(),
            Err(refusal) => refusal.what,
        }
    }

    #[test]
    fn arguments_are_refused_in_the_words_of_qemu() {
        let cases = [
            (json!({ "name": "n", "count": 5, "choice": "one" }), ""),
            (json!({}), "Parameter 'name' is missing"),
            (json!({ "name": "n", "x": 1 }), "Parameter 'x' is unexpected"),
            (json!({ "name": 5 }), "Invalid parameter type for 'name', expected: string"),
            (json!({ "name": null }), "Invalid parameter type for 'name', expected: string"),
            (
                json!({ "name": "n", "count": -1 }),
                "Invalid parameter type for 'count', expected: integer",
            ),
            (
                json!({ "name": "n", "count": 1.5 }),
                "Invalid parameter type for 'count', expected: integer",
            ),
            (
                json!({ "name": "n", "count": null }),
                "Invalid parameter type for 'count', expected: integer",
            ),
            (
                json!({ "name": "n", "flag": 1 }),
                "Invalid parameter type for 'flag', expected: boolean",
            ),
            (
                json!({ "name": "n", "choice": "two" }),
                "Parameter 'choice' does not accept value 'two'",
            ),
            (
                json!({ "name": "n", "inner": {} }),
                "Invalid parameter type for 'inner', expected: array",
            ),
            (
                json!({ "name": "n", "inner": [{ "type": "do-it", "data": {} }] }),
                "Parameter 'inner[0].data.node' is missing",
            ),
            (
                json!({ "name": "n", "inner": [{ "type": "do-it", "data": { "node": "", "y": 1 } }] }),
                "Parameter 'inner[0].data.y' is unexpected",
            ),
            (
                json!({ "name": "n", "inner": [{ "type": "other", "data": {} }] }),
                "Parameter 'inner[0].type' does not accept value 'other'",
            ),
            (
                json!({ "name": "n", "inner": [7] }),
                "Invalid parameter type for 'inner[0]', expected: object",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(told(value.clone()), expected, "{value}");
        }
    }
}
