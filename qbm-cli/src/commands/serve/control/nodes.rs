//! What is told of nodes, and of their bitmaps.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::Access;
use qbm_core::image::BitmapInfo;
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Control, Node};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Without the images behind it; there are none.
    #[serde(default, rename = "flat")]
    _flat: bool,
}

pub(super) fn query(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Arguments { .. } = call.arguments()?;
    Ok(control.graph.all().iter().map(|node| told(node)).collect())
}

/// A `BlockDeviceInfo`.
fn told(node: &Node) -> Value {
    let image = node.image();
    let size = image.size();
    let bitmaps = block_on(image.bitmaps());
    let bitmaps: Vec<Value> = bitmaps.iter().map(|bitmap| facts(bitmap, size)).collect();
    let read_only = image.access() == Access::Read;
    let descriptor = block_on(image.descriptor());
    let file = node.path.display().to_string();
    json!({
        "node-name": node.name,
        "drv": "qbm",
        "file": file,
        "ro": read_only,
        "active": true,
        "encrypted": false,
        "backing_file_depth": 0,
        "detect_zeroes": "off",
        "write_threshold": 0,
        "bps": 0, "bps_rd": 0, "bps_wr": 0,
        "iops": 0, "iops_rd": 0, "iops_wr": 0,
        "cache": { "writeback": true, "direct": false, "no-flush": false },
        "image": {
            "filename": file,
            "format": "qbm",
            "virtual-size": size,
            "dirty-flag": descriptor.in_use.is_some(),
        },
        "dirty-bitmaps": bitmaps,
    })
}

/// A `BlockDirtyInfo`, with what QEMU's bitmaps do not have: points, and doubt.
fn facts(bitmap: &BitmapInfo, size: u64) -> Value {
    let granularity = bitmap.granularity.bytes();
    let mut facts = json!({
        "name": bitmap.name,
        "count": bitmap.marked.saturating_mul(granularity).min(size),
        "granularity": granularity,
        "recording": !bitmap.disabled,
        "busy": bitmap.busy,
        "persistent": true,
    });
    let points: Vec<String> = bitmap.points.iter().flatten().map(ToString::to_string).collect();
    if !points.is_empty() {
        facts["x-points"] = json!(points);
    }
    if let Some(doubt) = bitmap.doubt {
        facts["x-doubt"] = json!({ "code": doubt.code(), "reason": doubt.sentence() });
    }
    facts
}
