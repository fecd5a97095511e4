//! Points that a client pulls: begun here, read from an export, and committed or given up by id.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::image::{Fleece, FrozenPoint, Outcome};
use qbm_core::{Directory, Id};
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Control, Node, parse_id, refused};
use crate::open::{DiskFile, host};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    node: String,
    bitmap: String,
    #[serde(default, rename = "fleece-limit")]
    fleece_limit: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settle {
    node: String,
    bitmap: String,
    id: String,
}

/// Takes a point, and tells under which node name it can be exported.
pub(super) fn begin(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Begin { node, bitmap, fleece_limit } = call.arguments()?;
    let node = control.node(&node)?;
    let image = node.image()?;
    let fleece = fleece(image.directory(), fleece_limit.unwrap_or(image.size()));
    let fleece =
        fleece.map_err(|error| Refusal::generic(format!("its fleecing space: {error}")))?;
    let id = host().fresh_id();
    let frozen = block_on(image.begin_live_point(&bitmap, id, fleece));
    let frozen = frozen.map_err(|error| refused(&error))?;
    let told = json!({
        "id": id.to_string(),
        "node-name": point_node(id),
        "parent": frozen.parent().map(|id| id.to_string()),
        "size": frozen.size(),
        "granularity": frozen.granularity().bytes(),
        "count": frozen.bits().count(),
    });
    control.state().points.insert(id, (node, frozen));
    Ok(told)
}

/// The node name of a point.
pub(super) fn point_node(id: Id) -> String {
    format!("point-{id}")
}

pub(super) fn commit(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    settle(control, call.arguments()?, Outcome::Stored)
}

pub(super) fn abort(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    settle(control, call.arguments()?, Outcome::Abandoned)
}

/// Also a point that an earlier server had begun.
fn settle(control: &Control, settle: Settle, outcome: Outcome) -> Result<Value, Refusal> {
    let Settle { node, bitmap, id } = settle;
    let node = control.node(&node)?;
    let id = parse_id(&id)?;
    let frozen = {
        let mut state = control.state();
        let other = |(of, frozen): &(Arc<Node>, FrozenPoint<DiskFile>)| {
            !Arc::ptr_eq(of, &node) || frozen.bitmap() != bitmap
        };
        if state.points.get(&id).is_some_and(other) {
            return Err(Refusal::generic(format!("Point '{id}' is none of bitmap '{bitmap}'")));
        }
        state.points.remove(&id)
    };
    let image = node.image()?;
    super::exports::forget_node(control, &point_node(id));
    let settled = match frozen {
        Some((_, frozen)) => block_on(image.settle_point(frozen, outcome)),
        None => block_on(image.settle_found(&bitmap, id, outcome)),
    };
    settled.map_err(|error| refused(&error))?;
    Ok(json!({}))
}

/// A fleece in a file of `directory` that has no name any more, so that nothing is left of it.
pub(super) fn fleece<D: Directory>(
    directory: &D,
    limit: u64,
) -> std::io::Result<Arc<Fleece<D::File>>> {
    let name = format!("{}.fleece.tmp", host().fresh_id());
    block_on(async {
        let file = directory.create(&name).await?;
        directory.remove(&name).await?;
        Ok(Arc::new(Fleece::new(file, limit)))
    })
}
