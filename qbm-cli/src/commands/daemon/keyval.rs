//! Options as QEMU's programs take them: `key=value,key.key=value`, or an object of JSON.

use qbm_qmp::{Options, Written, json};
use serde_json::{Map, Value};

/// The most members of members of an option.
const MAX_DEPTH: usize = 8;

/// Reads `text`; a first part without `=` is the value of `implied`.
///
/// A comma in a value is written twice. Members named 0, 1 and so on are those of a list.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn parse(text: &str, implied: &str) -> Result<Options, String> {
    if text.starts_with('{') {
        return match json::parse(text.as_bytes()) {
            Ok(Value::Object(members)) => Ok(Options::new(members, Written::Json)),
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(error) => Err(format!("JSON parse error, {error}")),
        };
    }
    let mut members = Map::new();
    for (index, part) in parts(text).into_iter().enumerate() {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, value),
            None if index == 0 => (implied, part.as_str()),
            None => return Err(format!("No '=' after parameter '{part}'")),
        };
        let path: Vec<&str> = key.split('.').collect();
        if path.len() > MAX_DEPTH || path.contains(&"") {
            return Err(format!("Invalid parameter '{key}'"));
        }
        put(&mut members, &path, value)
            .map_err(|()| format!("Parameter '{key}' used inconsistently"))?;
    }
    match lists(Value::Object(members)) {
        Value::Object(members) => Ok(Options::new(members, Written::Text)),
        _ => Err("it has no names".to_owned()),
    }
}

/// What is between commas; two of them stand for one.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character == ',' && rest.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Puts `value` where `path` leads; of two in the same place the last one counts.
fn put(members: &mut Map<String, Value>, path: &[&str], value: &str) -> Result<(), ()> {
    let (name, rest) = path.split_first().ok_or(())?;
    if rest.is_empty() {
        return match members.insert((*name).to_owned(), value.into()) {
            None | Some(Value::String(_)) => Ok(()),
            Some(_) => Err(()),
        };
    }
    let inner = members.entry(*name).or_insert_with(|| Value::Object(Map::new()));
    put(inner.as_object_mut().ok_or(())?, rest, value)
}

/// `value` with lists where members are numbered.
fn lists(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    let number = |index: usize, name: &str| name == index.to_string();
    let mut members: Vec<_> = members.into_iter().map(|(name, it)| (name, lists(it))).collect();
    members.sort_by_key(|(name, _)| name.parse::<usize>().unwrap_or(usize::MAX));
    let numbered = members.iter().enumerate().all(|(index, (name, _))| number(index, name));
    if numbered && !members.is_empty() {
        return members.into_iter().map(|(_, value)| value).collect();
    }
    Value::Object(members.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_qemu_reads_them() {
        let mut options =
            parse("qbm,node-name=a,,b,file.driver=file,bitmaps.0=x,bitmaps.1=y,flag=on", "driver")
                .unwrap();
        assert_eq!(options.need::<String>("driver").unwrap(), "qbm");
        assert_eq!(options.need::<String>("node-name").unwrap(), "a,b");
        assert_eq!(options.need::<Vec<String>>("bitmaps").unwrap(), ["x", "y"]);
        assert!(options.need::<bool>("flag").unwrap());
        assert!(options.has("file"));
        let mut options = parse(r#"{ "driver": "qbm", "size": 5 }"#, "driver").unwrap();
        assert_eq!(options.need::<u64>("size").unwrap(), 5);
        let refused = parse(r#"{ "flag": "on" }"#, "driver").unwrap().need::<bool>("flag");
        let what = refused.unwrap_err().to_string();
        assert_eq!(what, "Invalid parameter type for 'flag', expected: boolean");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let refused = |text: &str| parse(text, "driver").unwrap_err();
        assert_eq!(refused("file,oops"), "No '=' after parameter 'oops'");
        assert_eq!(refused("file,a=1,a.b=2"), "Parameter 'a.b' used inconsistently");
        assert_eq!(refused("file,a.b=2,a=1"), "Parameter 'a' used inconsistently");
        assert_eq!(refused("file,a..b=2"), "Invalid parameter 'a..b'");
        assert!(refused("{ \"a\": 1,").starts_with("JSON parse error"));
    }
}
