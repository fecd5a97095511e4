//! What a server tells of its commands, and whether that is so.

use std::collections::{BTreeMap, BTreeSet};

use iotests::Served;
use qbm_qmp::{Client, ClientError};
use serde_json::{Value, json};

type Schema = BTreeMap<String, Value>;

/// A daemon without anything, and what it tells of itself.
fn told() -> (tempfile::TempDir, Served, Client, Schema) {
    let folder = tempfile::tempdir().unwrap();
    let chardev = "socket,id=c,path=own.qmp,server=on,wait=off";
    let daemon = Served::daemon(folder.path(), &["--chardev", chardev, "--monitor", "c"]);
    let mut monitor = Client::connect(&folder.path().join("own.qmp"), &[]).unwrap();
    let entities = monitor.execute("query-qmp-schema", &json!({})).unwrap();
    let mut schema = Schema::new();
    for entity in entities.as_array().unwrap() {
        let name = entity["name"].as_str().unwrap().to_owned();
        assert_eq!(schema.insert(name, entity.clone()), None, "there are two: {entity}");
    }
    (folder, daemon, monitor, schema)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no '{name}': {value}"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no '{name}': {value}"))
}

/// The names that `entity` refers to.
fn references(entity: &Value) -> Vec<&str> {
    let members = |members: &str| list(entity, members).iter().map(|member| text(member, "type"));
    match text(entity, "meta-type") {
        "builtin" => Vec::new(),
        "command" => vec![text(entity, "arg-type"), text(entity, "ret-type")],
        "event" => vec![text(entity, "arg-type")],
        "array" => vec![text(entity, "element-type")],
        "alternate" => members("members").collect(),
        "enum" => {
            let names: Vec<_> = list(entity, "members").iter().map(|it| &it["name"]).collect();
            assert!(names.iter().copied().eq(list(entity, "values")), "{entity}");
            Vec::new()
        }
        "object" if entity.get("tag").is_some() => {
            members("members").chain(members("variants")).collect()
        }
        "object" => members("members").collect(),
        other => panic!("there is no meta-type '{other}'"),
    }
}

/// Every name leads to an entity, every entity is led to, and commands are those that there are.
#[test]
fn the_schema_is_whole_and_of_the_commands_that_there_are() {
    let (_folder, _daemon, mut monitor, schema) = told();
    let is = |entity: &Value, kind: &str| entity["meta-type"] == kind;
    let mut used = BTreeSet::new();
    for entity in schema.values() {
        for name in references(entity) {
            assert!(schema.contains_key(name), "'{name}' is not there: {entity}");
            used.insert(name);
        }
        if let Some(tag) = entity.get("tag") {
            let tag = list(entity, "members").iter().find(|member| member["name"] == *tag);
            let values = &schema[text(tag.unwrap(), "type")]["values"];
            let cases = list(entity, "variants").iter().map(|variant| &variant["case"]);
            assert!(values.as_array().unwrap().iter().eq(cases), "{entity}");
        }
    }
    for (name, entity) in &schema {
        let is_root = is(entity, "command") || is(entity, "event");
        assert!(is_root != used.contains(name.as_str()), "{entity}");
    }
    let commands = monitor.execute("query-commands", &json!({})).unwrap();
    let commands = commands.as_array().unwrap().iter().map(|it| text(it, "name").to_owned());
    let described = schema.values().filter(|entity| is(entity, "command"));
    let described: BTreeSet<_> = described.map(|entity| text(entity, "name").to_owned()).collect();
    assert_eq!(described, commands.collect());
}

fn refusal(monitor: &mut Client, command: &str, arguments: &Value) -> String {
    match monitor.execute(command, arguments) {
        Err(ClientError::Refused { what, .. }) => what,
        other => panic!("{command} {arguments}: {other:?}"),
    }
}

/// Arguments of the schema are known to the command, those that must be there are missed, and no others are taken.
#[test]
fn arguments_are_those_of_the_schema() {
    let (_folder, _daemon, mut monitor, schema) = told();
    let commands = schema.values().filter(|entity| entity["meta-type"] == "command");
    let mut asked = 0;
    for command in commands.filter(|command| command["name"] != "qmp_capabilities") {
        let (name, arguments) = (text(command, "name"), &schema[text(command, "arg-type")]);
        let members = list(arguments, "members");
        let needed: Vec<&str> = members
            .iter()
            .filter(|it| it.get("default").is_none())
            .map(|it| text(it, "name"))
            .collect();
        let missing = |what: &str| {
            needed.iter().any(|needed| what == format!("Parameter '{needed}' is missing"))
        };
        if !needed.is_empty() {
            let what = refusal(&mut monitor, name, &json!({}));
            assert!(missing(&what), "{name}: {what}");
        }
        let what = refusal(&mut monitor, name, &json!({ "no-such": 1 }));
        assert!(what == "Parameter 'no-such' is unexpected" || missing(&what), "{name}: {what}");
        for member in members {
            let argument = text(member, "name");
            // No argument is one of these.
            let wrong = if text(member, "type").starts_with('[') { json!(7) } else { json!([[7]]) };
            let what = refusal(&mut monitor, name, &json!({ argument: wrong }));
            let known = what.contains(&format!("'{argument}")) && !what.contains("unexpected");
            assert!(known || missing(&what), "{name} {argument}: {what}");
            asked += 1;
        }
    }
    assert!(asked > 90, "{asked}");
}
