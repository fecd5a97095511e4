//! Operations on bitmaps.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::Granularity;
use qbm_core::bits::PAGE_BYTES;
use qbm_core::image::{BitmapAction, Persistence};
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::transaction::{self, Action, Planned};
use super::{BitmapArguments, Control, Node, refused};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
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
pub(super) struct Merge {
    node: String,
    target: String,
    bitmaps: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetPersistent {
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

pub(super) fn add(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    transaction::run_one(control, Action::BlockDirtyBitmapAdd(arguments))
}

pub(super) fn clear(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    transaction::run_one(control, Action::BlockDirtyBitmapClear(arguments))
}

pub(super) fn disable(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    transaction::run_one(control, Action::BlockDirtyBitmapDisable(arguments))
}

pub(super) fn enable(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    transaction::run_one(control, Action::BlockDirtyBitmapEnable(arguments))
}

pub(super) fn merge(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    transaction::run_one(control, Action::BlockDirtyBitmapMerge(arguments))
}

pub(super) fn remove(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    transaction::run_one(control, Action::BlockDirtyBitmapRemove(arguments))
}

pub(super) fn set_persistent(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments = call.arguments()?;
    transaction::run_one(control, Action::BlockDirtyBitmapSetPersistent(arguments))
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

/// What is done to one bitmap that needs no more than its name.
pub(super) fn plan_named(
    control: &Control,
    arguments: BitmapArguments,
    action: fn(String) -> BitmapAction,
) -> Result<Planned, Refusal> {
    Ok((control.node(&arguments.node)?, vec![action(arguments.name)]))
}

pub(super) fn plan_persistence(control: &Control, set: SetPersistent) -> Result<Planned, Refusal> {
    let SetPersistent { node, name, persistent } = set;
    let persistence = persistence(persistent);
    Ok((control.node(&node)?, vec![BitmapAction::SetPersistence { name, persistence }]))
}

pub(super) fn plan_merge(control: &Control, merge: Merge) -> Result<Planned, Refusal> {
    let Merge { node, target, bitmaps } = merge;
    let node = control.node(&node)?;
    let one = |source| {
        let target = target.clone();
        match source {
            Source::Here(source) => Ok(BitmapAction::Merge { target, source }),
            Source::At(source) => merge_from(control, &node, target, source),
        }
    };
    let merges = bitmaps.into_iter().map(one).collect::<Result<_, _>>()?;
    Ok((node, merges))
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

pub(super) fn plan_add(control: &Control, add: Add) -> Result<Planned, Refusal> {
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
