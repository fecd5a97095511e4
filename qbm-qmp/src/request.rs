//! What a client asks for.

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// A command, as it came.
#[derive(Debug)]
pub(crate) struct Request {
    /// What the client wants to find in the reply.
    pub(crate) id: Option<Value>,
    /// The command and its arguments, or why it is none.
    pub(crate) wanted: Result<(String, Map<String, Value>), Refusal>,
}

impl Request {
    /// What `value` asks for.
    pub(crate) fn new(value: Value) -> Self {
        let Value::Object(mut members) = value else {
            let wanted = Err(Refusal::generic("QMP input must be a JSON object"));
            return Self { id: None, wanted };
        };
        let id = members.remove("id");
        Self { id, wanted: wanted(members) }
    }
}

fn wanted(mut members: Map<String, Value>) -> Result<(String, Map<String, Value>), Refusal> {
    let command = members.remove("execute");
    let arguments = members.remove("arguments");
    if let Some(other) = members.keys().next() {
        // `exec-oob` too: it is understood only by who offers it in the greeting.
        return Err(Refusal::generic(format!("QMP input member '{other}' is unexpected")));
    }
    let arguments = match arguments {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(Refusal::generic("QMP input member 'arguments' must be an object")),
    };
    match command {
        Some(Value::String(command)) => Ok((command, arguments)),
        Some(_) => Err(Refusal::generic("QMP input member 'execute' must be a string")),
        None => Err(Refusal::generic("QMP input lacks member 'execute'")),
    }
}
