//! What a monitor may not do, so that whoever has stolen its credentials cannot make history unusable.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::COMMANDS;

/// Stands for all commands that make a bitmap forget, or stop recording.
const DESTRUCTIVE: &str = "destructive";

/// Who may come to a monitor, and what it may not do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Policy {
    /// Commands that are denied, alone and in a transaction.
    #[serde(default)]
    deny: Vec<String>,
    /// The users that may connect, in place of our own and root.
    #[serde(default)]
    pub(super) users: Option<Vec<u32>>,
}

impl Policy {
    /// Reads it from the file at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or denies what there is not.
    pub(in crate::commands) fn read(path: &Path) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        let text = fs::read(path).with_context(named)?;
        let value = qbm_qmp::json::parse(&text).with_context(named)?;
        let policy: Self = serde_json::from_value(value).with_context(named)?;
        let known = |name: &str| name == DESTRUCTIVE || COMMANDS.iter().any(|(it, _)| *it == name);
        if let Some(unknown) = policy.deny.iter().find(|name| !known(name)) {
            bail!("{}: there is no command '{unknown}'", named());
        }
        Ok(policy)
    }

    /// Refuses `call` if it, or a part of it, is denied.
    pub(super) fn check(&self, call: &Call) -> Result<(), Refusal> {
        let denied = |name: &str, data: Option<&Value>| {
            let named = |it: &String| it == name || it == DESTRUCTIVE && is_destructive(name, data);
            self.deny.iter().any(named)
        };
        let arguments = Value::Object(call.arguments.clone());
        let mut asked = vec![(call.command.as_str(), Some(&arguments))];
        let actions = arguments["actions"].as_array().into_iter().flatten();
        asked.extend(actions.filter_map(|it| Some((it["type"].as_str()?, it.get("data")))));
        match asked.into_iter().find(|(name, data)| denied(name, *data)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Refusal::generic(format!("The command {name} is denied to this monitor")))
            }
        }
    }
}

fn is_destructive(name: &str, data: Option<&Value>) -> bool {
    match name.strip_prefix("block-dirty-bitmap-") {
        Some("clear" | "disable" | "remove") => true,
        Some("set-persistent") => data.is_none_or(|data| data["persistent"] != true),
        _ => false,
    }
}
