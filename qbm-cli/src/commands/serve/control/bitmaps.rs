//! Operations on bitmaps, alone and in transactions.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::Granularity;
use qbm_core::bits::PAGE_BYTES;
use qbm_core::image::{BitmapAction, Persistence, PreparedTransaction};
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BitmapArguments, Control, Node, refused};
use crate::open::{FileDirectory, FileImage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    node: String,
    name: String,
    #[serde(default)]
    granularity: Option<u32>,
    #[serde(default)]
    persistent: bool,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPersistent {
    node: String,
    name: String,
    persistent: bool,
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
    BlockDirtyBitmapSetPersistent(SetPersistent),
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

/// Whether the jobs of a transaction succeed together; none can be in one here.
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

pub(super) fn set_persistent(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    run(control, vec![Action::BlockDirtyBitmapSetPersistent(arguments)])
}

/// The SHA-256 of the bits, in the words of 64 bits that QEMU keeps them in.
pub(super) fn digest(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let BitmapArguments { node, name } = call.arguments()?;
    let node = control.node(&node)?;
    let bits = block_on(node.image()?.bitmap_bits(&name)).map_err(|error| refused(&error))?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut bytes = [0; PAGE_BYTES];
    for page in 0..bits.page_count() {
        bits.page_bytes(page, &mut bytes);
        digest.update(&bytes[..bits.page_len(page).next_multiple_of(8)]);
    }
    let digest = digest.finish();
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(json!({ "sha256": digest }))
}

pub(super) fn transaction(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Transaction { actions, properties } = call.arguments()?;
    if let (Completion::Grouped, Some(first)) = (properties.completion, actions.first()) {
        let what = "does not support transaction property completion-mode = grouped";
        return Err(Refusal::generic(format!("Action '{}' {what}", first.name())));
    }
    run(control, actions)
}

impl Action {
    /// What its `type` is.
    fn name(&self) -> &'static str {
        match self {
            Self::BlockDirtyBitmapAdd(_) => "block-dirty-bitmap-add",
            Self::BlockDirtyBitmapClear(_) => "block-dirty-bitmap-clear",
            Self::BlockDirtyBitmapDisable(_) => "block-dirty-bitmap-disable",
            Self::BlockDirtyBitmapEnable(_) => "block-dirty-bitmap-enable",
            Self::BlockDirtyBitmapMerge(_) => "block-dirty-bitmap-merge",
            Self::BlockDirtyBitmapRemove(_) => "block-dirty-bitmap-remove",
            Self::BlockDirtyBitmapSetPersistent(_) => "block-dirty-bitmap-set-persistent",
            Self::Abort(_) => "abort",
        }
    }
}

/// Does all of `actions`, or none of them.
fn run(control: &Control, actions: Vec<Action>) -> Result<Value, Refusal> {
    let mut parts: Vec<Part> = Vec::new();
    for action in actions {
        let (node, actions) = planned(control, action)?;
        match parts.iter_mut().find(|part| Arc::ptr_eq(&part.node, &node)) {
            Some(part) => part.actions.extend(actions),
            None => {
                let image = Arc::clone(node.image()?);
                parts.push(Part { node, image, actions });
            }
        }
    }
    block_on(run_parts(&parts))?;
    Ok(json!({}))
}

/// What is to be done to the bitmaps of one node.
struct Part {
    node: Arc<Node>,
    image: Arc<FileImage>,
    actions: Vec<BitmapAction>,
}

/// Does what is to be done to each node. All that can be refused is found first, and whatever takes time is
/// done; then one replace of a descriptor after the other decides.
async fn run_parts(parts: &[Part]) -> Result<(), Refusal> {
    let mut prepared = Vec::new();
    for Part { node, image, actions } in parts {
        match image.prepare_transaction(actions).await {
            Ok(part) => prepared.push((&*node.name, part)),
            Err(error) => {
                give_up(prepared).await;
                return Err(refused(&error));
            }
        }
    }
    let mut done = Vec::new();
    let mut left = prepared.into_iter();
    while let Some((name, part)) = left.next() {
        if let Err(error) = part.commit().await {
            give_up(left).await;
            return Err(match done.as_slice() {
                [] => refused(&error),
                // A medium has failed between two steps: nothing can be taken back by now.
                done => {
                    Refusal::generic(format!("{error}; done is what is of: {}", done.join(", ")))
                }
            });
        }
        done.push(name);
    }
    Ok(())
}

async fn give_up<'a>(
    parts: impl IntoIterator<Item = (&'a str, PreparedTransaction<'a, FileDirectory>)>,
) {
    for (_, part) in parts {
        part.give_up().await;
    }
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
        Action::BlockDirtyBitmapSetPersistent(SetPersistent { node, name, persistent }) => {
            let persistence = persistence(persistent);
            let action = BitmapAction::SetPersistence { name, persistence };
            Ok((control.node(&node)?, vec![action]))
        }
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
    let marks = block_on(from.image()?.marks(&name)).map_err(|error| refused(&error))?;
    Ok(BitmapAction::MergeMarks { target, marks })
}

fn planned_add(control: &Control, add: Add) -> Result<(Arc<Node>, Vec<BitmapAction>), Refusal> {
    let Add { node, name, granularity, persistent, disabled } = add;
    let node = control.node(&node)?;
    let granularity = match granularity {
        None => Granularity::DEFAULT,
        Some(bytes) => Granularity::from_bytes(bytes.into())
            .ok_or_else(|| Refusal::generic("Granularity must be power of 2 and at least 512"))?,
    };
    let action = match persistence(persistent) {
        Persistence::Persistent => BitmapAction::Add { name, granularity, disabled },
        Persistence::InMemory => BitmapAction::AddInMemory { name, granularity, disabled },
    };
    Ok((node, vec![action]))
}

fn persistence(persistent: bool) -> Persistence {
    if persistent { Persistence::Persistent } else { Persistence::InMemory }
}
