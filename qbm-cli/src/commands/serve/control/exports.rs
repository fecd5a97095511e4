//! Exports: of the image, and of points of it.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::Access;
use qbm_nbd::{Disk, Export, PointDisk};
use qbm_qmp::{Call, Options, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::graph::NodeDisk;
use super::points::point_node;
use super::{Control, ExportedDisk, Node, State, is_well_formed};

/// The id of the export that the command line asks for.
const FIRST: &str = "serve";

/// An export.
pub(super) struct ExportEntry {
    id: String,
    /// What it is of.
    of: Of,
    /// The name that clients ask for.
    name: String,
}

/// What is exported.
enum Of {
    /// A node, which a job may put another in place of.
    Node(Arc<ExportedDisk>),
    /// A point of a node.
    Point {
        /// Its name as a node.
        name: String,
        _node: Arc<Node>,
    },
}

impl Of {
    /// The name of its node.
    fn node_name(&self) -> String {
        match self {
            Self::Node(disk) => disk.at().name.clone(),
            Self::Point { name, .. } => name.clone(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    #[serde(rename = "type")]
    _kind: ExportKind,
    id: String,
    #[serde(rename = "node-name")]
    node: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    writable: bool,
    #[serde(default)]
    bitmaps: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ExportKind {
    Nbd,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddNbd {
    device: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    writable: bool,
    #[serde(default)]
    bitmap: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    id: String,
    #[serde(default)]
    mode: Mode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveNbd {
    name: String,
    #[serde(default)]
    mode: Mode,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Not while it has clients.
    #[default]
    Safe,
    /// Its clients are hung up on.
    Hard,
}

pub(super) fn add(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    add_checked(control, call.arguments()?)
}

fn add_checked(control: &Control, add: Add) -> Result<Value, Refusal> {
    if !is_well_formed(&add.id) {
        return Err(Refusal::generic("Invalid block export id"));
    }
    export(control, add)
}

pub(super) fn add_nbd(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let AddNbd { device, name, description, writable, bitmap } = call.arguments()?;
    let name = name.unwrap_or_else(|| device.clone());
    let add = Add {
        _kind: ExportKind::Nbd,
        id: name.clone(),
        node: device,
        name: Some(name),
        description,
        writable,
        bitmaps: bitmap.into_iter().collect(),
    };
    export(control, add)
}

fn export(control: &Control, add: Add) -> Result<Value, Refusal> {
    let Add { _kind, id, node, name, description, writable, bitmaps } = add;
    let server = control.server()?;
    let mut state = control.state();
    if state.exports.iter().any(|export| export.id == id) {
        return Err(Refusal::generic(format!("Block export id '{id}' is already in use")));
    }
    let name = name.unwrap_or_else(|| node.clone());
    let Exported { of, disk, access } = exported(control, &state, (&node, writable), &bitmaps)?;
    let export = Export { name: name.clone(), description, disk, access, bitmaps };
    server.add(export).map_err(|error| Refusal::generic(error.to_string()))?;
    state.exports.push(ExportEntry { id, of, name });
    Ok(json!({}))
}

impl Control {
    /// Whether `node` is exported.
    pub(super) fn exports_node(&self, node: &Node) -> bool {
        self.state().exports.iter().any(|export| export.of.node_name() == node.name)
    }
}

/// Those that the command line asked for: the name of each, and its disk.
pub(super) fn first(exports: Vec<(String, Arc<ExportedDisk>)>) -> Vec<ExportEntry> {
    let several = exports.len() > 1;
    let entry = |(name, disk): (String, Arc<ExportedDisk>)| {
        let id = if several { format!("{FIRST}-{name}") } else { FIRST.to_owned() };
        ExportEntry { id, of: Of::Node(disk), name }
    };
    exports.into_iter().map(entry).collect()
}

/// What is exported.
struct Exported {
    of: Of,
    disk: Arc<dyn Disk>,
    access: Access,
}

/// The disk of a node, as it can be exported with `bitmaps`.
fn exported(
    control: &Control,
    state: &State,
    (node, writable): (&str, bool),
    bitmaps: &[String],
) -> Result<Exported, Refusal> {
    let missing = |name: &String| Refusal::generic(format!("Bitmap '{name}' is not found"));
    let frozen = state.points.iter().find(|(id, _)| point_node(**id) == node);
    if let Some((_, (of, frozen))) = frozen {
        if writable {
            return Err(Refusal::generic(format!("Node '{node}' is read-only")));
        }
        if let Some(other) = bitmaps.iter().find(|name| *name != frozen.bitmap()) {
            return Err(missing(other));
        }
        let disk = PointDisk::new(Arc::clone(of.image()?), frozen.view().clone());
        let of = Of::Point { name: node.to_owned(), _node: Arc::clone(of) };
        return Ok(Exported { of, disk: Arc::new(disk), access: Access::Read });
    }
    let of = control.node(node)?;
    if writable && of.access == Access::Read {
        return Err(Refusal::generic(format!("Node '{node}' is read-only")));
    }
    if control.graph.is_under(&of) {
        return Err(Refusal::generic(format!("Node '{node}' is in use by the node over it")));
    }
    let there = match &of.disk {
        NodeDisk::Image(image) => block_on(image.bitmaps()),
        NodeDisk::Raw(_) => Vec::new(),
        NodeDisk::Held => unreachable!("there is a node over it"),
    };
    if let Some(name) = bitmaps.iter().find(|name| there.iter().all(|b| b.name != **name)) {
        return Err(missing(name));
    }
    let access = if writable { Access::Write } else { Access::Read };
    let disk = control.graph.disk(&of);
    Ok(Exported { of: Of::Node(Arc::clone(&disk)), disk, access })
}

pub(super) fn delete(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Delete { id, mode } = call.arguments()?;
    remove(control, |export| export.id == id, &id, mode)
}

pub(super) fn remove_nbd(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let RemoveNbd { name, mode } = call.arguments()?;
    remove(control, |export| export.name == name, &name, mode)
}

fn remove(
    control: &Control,
    is_it: impl Fn(&ExportEntry) -> bool,
    called: &str,
    mode: Mode,
) -> Result<Value, Refusal> {
    let mut state = control.state();
    let Some(index) = state.exports.iter().position(is_it) else {
        return Err(Refusal::generic(format!("Export '{called}' is not found")));
    };
    let name = &state.exports[index].name;
    let server = control.server()?;
    let has_clients = server.clients().iter().any(|client| client.export == *name);
    if matches!(mode, Mode::Safe) && has_clients {
        return Err(Refusal::generic(format!("export '{called}' still in use")));
    }
    server.remove(name);
    let export = state.exports.remove(index);
    drop(state);
    control.emit("BLOCK_EXPORT_DELETED", &json!({ "id": export.id }));
    Ok(json!({}))
}

/// The server has ended, and with it all that it had.
pub(super) fn forget_all(control: &Control) {
    let gone = std::mem::take(&mut control.state().exports);
    for export in gone {
        control.emit("BLOCK_EXPORT_DELETED", &json!({ "id": export.id }));
    }
}

/// `--export` of the command line.
pub(super) fn add_by_options(control: &Control, options: Options) -> Result<(), Refusal> {
    add_checked(control, options.parse()?).map(drop)
}

/// Removes what is exported of a node that is about to be gone; its clients are hung up on.
pub(super) fn forget_node(control: &Control, node: &str) {
    let mut state = control.state();
    let exports = std::mem::take(&mut state.exports).into_iter();
    let (gone, kept): (Vec<_>, Vec<_>) = exports.partition(|export| export.of.node_name() == node);
    state.exports = kept;
    let Ok(server) = control.server() else { return };
    gone.iter().for_each(|export| server.remove(&export.name));
}

pub(super) fn query(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    let told = |export: &ExportEntry| {
        let node_name = export.of.node_name();
        json!({ "id": export.id, "type": "nbd", "node-name": node_name, "shutting-down": false })
    };
    Ok(control.state().exports.iter().map(told).collect())
}

pub(super) fn query_clients(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    let clients = control.server().map(|server| server.clients()).unwrap_or_default();
    Ok(clients
        .iter()
        .map(|client| json!({ "export": client.export, "address": client.address }))
        .collect())
}
