//! Operations on bitmaps, alone and in transactions.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::Granularity;
use qbm_core::image::BitmapAction;
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BitmapArguments, Control, Node, refused};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    node: String,
    name: String,
    #[serde(default)]
    granularity: Option<u32>,
    #[serde(default)]
    persistent: Option<bool>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    node: String,
    target: String,
    bitmaps: Vec<Source>,
}

/// A bitmap of this node, or one that says of which.
#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Here(String),
    At(BitmapArguments),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transaction {
    actions: Vec<Action>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
enum Action {
    BlockDirtyBitmapAdd(Add),
    BlockDirtyBitmapClear(BitmapArguments),
    BlockDirtyBitmapDisable(BitmapArguments),
    BlockDirtyBitmapEnable(BitmapArguments),
    BlockDirtyBitmapMerge(Merge),
    BlockDirtyBitmapRemove(BitmapArguments),
    Abort(Nothing),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Properties {
    #[serde(default, rename = "completion-mode")]
    completion: Completion,
}

/// When jobs of a transaction count as done; none can be in one here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Completion {
    #[default]
    Individual,
    Grouped,
}

pub(super) fn add(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    run(control, vec![Action::BlockDirtyBitmapAdd(arguments)])
}

pub(super) fn clear(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    run(control, vec![Action::BlockDirtyBitmapClear(arguments)])
}

pub(super) fn disable(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    run(control, vec![Action::BlockDirtyBitmapDisable(arguments)])
}

pub(super) fn enable(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    run(control, vec![Action::BlockDirtyBitmapEnable(arguments)])
}

pub(super) fn merge(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    run(control, vec![Action::BlockDirtyBitmapMerge(arguments)])
}

pub(super) fn remove(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    run(control, vec![Action::BlockDirtyBitmapRemove(arguments)])
}

pub(super) fn transaction(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Transaction { actions, properties } = call.arguments()?;
    let Properties { completion: Completion::Individual | Completion::Grouped } = properties;
    run(control, actions)
}

/// Does all of `actions`, or none of them.
fn run(control: &Control, actions: Vec<Action>) -> Result<Value, Refusal> {
    let mut of: Option<Arc<Node>> = None;
    let mut all = Vec::new();
    for action in actions {
        let (node, planned) = planned(control, action)?;
        if of.is_some_and(|of| !Arc::ptr_eq(&of, &node)) {
            return Err(Refusal::generic("A transaction is of one node only"));
        }
        of = Some(node);
        all.extend(planned);
    }
    if let Some(node) = of {
        block_on(node.image().transaction(&all)).map_err(|error| refused(&error))?;
    }
    Ok(json!({}))
}

/// What an action is to the core.
fn planned(control: &Control, action: Action) -> Result<(Arc<Node>, Vec<BitmapAction>), Refusal> {
    let one = |arguments: BitmapArguments, action: fn(String) -> BitmapAction| {
        Ok((control.node(&arguments.node)?, vec![action(arguments.name)]))
    };
    match action {
        Action::BlockDirtyBitmapAdd(add) => planned_add(control, add),
        Action::BlockDirtyBitmapClear(arguments) => one(arguments, BitmapAction::Clear),
        Action::BlockDirtyBitmapDisable(arguments) => one(arguments, BitmapAction::Disable),
        Action::BlockDirtyBitmapEnable(arguments) => one(arguments, BitmapAction::Enable),
        Action::BlockDirtyBitmapRemove(arguments) => one(arguments, BitmapAction::Remove),
        Action::BlockDirtyBitmapMerge(Merge { node, target, bitmaps }) => {
            let node = control.node(&node)?;
            let merge = |source| {
                let target = target.clone();
                match source {
                    Source::Here(source) => Ok(BitmapAction::Merge { target, source }),
                    Source::At(source) => merge_from(control, &node, target, source),
                }
            };
            let merges = bitmaps.into_iter().map(merge).collect::<Result<_, _>>()?;
            Ok((node, merges))
        }
        Action::Abort(Nothing {}) => {
            Err(Refusal::generic("Transaction aborted using Abort action"))
        }
    }
}

/// A merge of a bitmap that says of which node it is.
fn merge_from(
    control: &Control,
    into: &Arc<Node>,
    target: String,
    BitmapArguments { node, name }: BitmapArguments,
) -> Result<BitmapAction, Refusal> {
    let from = control.node(&node)?;
    if Arc::ptr_eq(&from, into) {
        return Ok(BitmapAction::Merge { target, source: name });
    }
    let marks = block_on(from.image().marks(&name)).map_err(|error| refused(&error))?;
    Ok(BitmapAction::MergeMarks { target, marks })
}

fn planned_add(control: &Control, add: Add) -> Result<(Arc<Node>, Vec<BitmapAction>), Refusal> {
    let Add { node, name, granularity, persistent, disabled } = add;
    let node = control.node(&node)?;
    if persistent == Some(false) {
        // QEMU's default, so it is refused only where it was asked for.
        return Err(Refusal::generic("Every bitmap of this node is persistent"));
    }
    let granularity = match granularity {
        None => Granularity::DEFAULT,
        Some(bytes) => Granularity::from_bytes(bytes.into())
            .ok_or_else(|| Refusal::generic("Granularity must be power of 2 and at least 512"))?,
    };
    Ok((node, vec![BitmapAction::Add { name, granularity, disabled }]))
}
