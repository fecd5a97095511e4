//! What is told of nodes, and of their bitmaps.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::Access;
use qbm_core::image::BitmapInfo;
use qbm_nbd::Disk;
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::graph::NodeDisk;
use super::{Control, Node, refused};

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

/// The devices of a machine; here there is none.
pub(super) fn query_devices(_: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    Ok(json!([]))
}

pub(super) fn add(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    control.open(call.options()).map(|()| json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Delete {
    node_name: String,
}

pub(super) fn delete(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Delete { node_name } = call.arguments()?;
    control.graph.remove(&node_name).map(|()| json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Resize {
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    node_name: Option<String>,
    size: i64,
}

pub(super) fn resize(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Resize { device, node_name, size } = call.arguments()?;
    let name = node_name.or(device).unwrap_or_default();
    let node = control.node(&name)?;
    let size = u64::try_from(size);
    let size = size.map_err(|_| Refusal::generic("Parameter 'size' expects a >0 size"))?;
    let image = node.image()?;
    if control.exports_node(&node) {
        // A client has been told the size, and would not hear of another.
        return Err(Refusal::generic(format!("Node '{name}' is exported, and cannot be resized")));
    }
    block_on(image.resize(size)).map_err(|error| refused(&error))?;
    Ok(json!({}))
}

/// A `BlockDeviceInfo`.
fn told(node: &Node) -> Value {
    let (size, bitmaps, in_use) = match &node.disk {
        NodeDisk::Image(image) => {
            let in_use = block_on(image.descriptor()).in_use.is_some();
            (image.size(), block_on(image.bitmaps()), in_use)
        }
        NodeDisk::Raw(disk) => (disk.size(), Vec::new(), false),
        NodeDisk::Held => (0, Vec::new(), false),
    };
    let bitmaps: Vec<Value> = bitmaps.iter().map(|bitmap| facts(bitmap, size)).collect();
    let (file, driver) = (node.path.display().to_string(), node.driver.name());
    let mut told = json!({
        "node-name": node.name,
        "drv": driver,
        "file": file,
        "ro": node.access == Access::Read,
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
            "format": driver,
            "virtual-size": size,
            "dirty-flag": in_use,
        },
    });
    if matches!(node.disk, NodeDisk::Image(_)) {
        told["dirty-bitmaps"] = json!(bitmaps);
    }
    told
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
        "persistent": bitmap.persistent,
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
