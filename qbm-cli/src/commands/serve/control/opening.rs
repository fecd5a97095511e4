//! Opening nodes: `blockdev-add`, and `--blockdev` of the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::{Access, Lock, Storage};
use qbm_nbd::StorageDisk;
use qbm_qmp::{Options, Part, Refusal};
use serde::Deserialize;

use super::graph::{Driver, Graph, Node, NodeDisk};
use super::is_well_formed;
use crate::aio::Aio;
use crate::disk::DiskFormat;
use crate::open::{DiskFile, GateArgs, ImageArgs};

/// The longest name of a node, in bytes; as in QEMU.
const MAX_NODE_NAME: usize = 31;

/// What nodes of all drivers may be told.
struct Common {
    name: String,
    /// Whether nobody has asked for it by a name: it goes with the node over it.
    implicit: bool,
    access: Access,
    /// Whether it is opened although a program writes to it.
    shared: bool,
}

/// What is only accepted as it is anyway.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Off {
    Off,
}

/// Whether a discard of a guest goes to the disk. It always does, since the marks do not depend on it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Discard {
    Ignore,
    Off,
    Unmap,
    On,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AioName {
    Threads,
    Native,
    IoUring,
}

/// `SocketAddress`: where a server is.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
enum ServerAddress {
    Unix { path: String },
    Inet { host: String, port: String },
}

/// What is under a node that is to be opened.
enum Child {
    /// A node that is there.
    There(Arc<Node>),
    /// One to be opened first.
    New(Options),
}

/// Opens nodes of a graph.
pub(in crate::commands) struct Opener<'a> {
    pub(in crate::commands) graph: &'a Graph,
    /// Which files descriptors may name.
    pub(in crate::commands) gate: &'a GateArgs,
}

impl Opener<'_> {
    /// Opens what `options` describe.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened, or what is wrong with the options. Nothing is left open.
    pub(in crate::commands) fn open(&self, options: Options) -> Result<(), Refusal> {
        let before = self.graph.all().len();
        let opened = self.open_at(options, None);
        if opened.is_err() {
            self.graph.forget_from(before);
        }
        opened.map(drop)
    }

    /// Opens a node, for the one that needs it with an access, if there is one.
    fn open_at(
        &self,
        mut options: Options,
        parent: Option<(Access, Driver)>,
    ) -> Result<Arc<Node>, Refusal> {
        let driver: Driver = options.need("driver")?;
        let common = self.common(&mut options, parent.map(|(access, _)| access))?;
        let node = match driver {
            Driver::File | Driver::HostDevice => {
                let for_image = parent.is_some_and(|(_, driver)| driver == Driver::Qbm);
                self.open_file(options, driver, common, for_image)?
            }
            Driver::Nbd => self.open_server(options, common)?,
            Driver::Raw => self.open_raw(options, common)?,
            Driver::Qbm => self.open_image(options, common)?,
        };
        Ok(self.graph.add(node))
    }

    fn common(&self, options: &mut Options, parent: Option<Access>) -> Result<Common, Refusal> {
        let name: Option<String> = options.take("node-name")?;
        let read_only: Option<bool> = options.take("read-only")?;
        let shared: Option<bool> = options.take("force-share")?;
        let _anyway: Option<bool> = options.take("auto-read-only")?;
        let _off: Option<Off> = options.take("detect-zeroes")?;
        let _discard: Option<Discard> = options.take("discard")?;
        let implicit = name.is_none();
        let name = match (name, parent) {
            (Some(name), _) => self.check_name(name)?,
            (None, Some(_)) => self.graph.fresh_name(),
            (None, None) => {
                return Err(Refusal::generic("'node-name' must be specified for the root node"));
            }
        };
        let access = match read_only {
            Some(true) => Access::Read,
            Some(false) => Access::Write,
            None => parent.unwrap_or(Access::Write),
        };
        Ok(Common { name, implicit, access, shared: shared.unwrap_or(false) })
    }

    fn check_name(&self, name: String) -> Result<String, Refusal> {
        if !is_well_formed(&name) {
            return Err(Refusal::generic(format!("Invalid node-name: '{name}'")));
        }
        if name.len() > MAX_NODE_NAME {
            return Err(Refusal::generic("Node name too long"));
        }
        if self.graph.find(&name).is_ok() {
            return Err(Refusal::generic(format!("Duplicate nodes with node-name='{name}'")));
        }
        Ok(name)
    }

    fn open_file(
        &self,
        mut options: Options,
        driver: Driver,
        common: Common,
        for_image: bool,
    ) -> Result<Node, Refusal> {
        let path: PathBuf = options.need("filename")?;
        let aio: Option<AioName> = options.take("aio")?;
        options.finish()?;
        let file = DiskFile::open_operator(&path, common.access)
            .map_err(|error| could_not_open(&path, &error))?;
        if file.is_block_device() != (driver == Driver::HostDevice) {
            let what = match driver {
                Driver::HostDevice => "is not a block device",
                _ => "requires a regular file",
            };
            return Err(Refusal::generic(format!(
                "{}: '{}' {what}",
                driver.name(),
                path.display()
            )));
        }
        let disk = if for_image { NodeDisk::Held } else { raw_disk(&path, file, &common)? };
        let aio = match aio {
            Some(AioName::IoUring) => Aio::IoUring,
            _ => Aio::Threads,
        };
        Ok(Node { aio, ..node(common, driver, &path, disk) })
    }

    fn open_server(&self, mut options: Options, common: Common) -> Result<Node, Refusal> {
        let address = match options.need_part("server")? {
            Part::Options(address) => address.parse()?,
            Part::Text(_) => {
                return Err(Refusal::generic(
                    "Invalid parameter type for 'server', expected: object",
                ));
            }
        };
        let export: String = options.take("export")?.unwrap_or_default();
        options.finish()?;
        let uri = match address {
            ServerAddress::Unix { path } => format!("nbd+unix:///{export}?socket={path}"),
            ServerAddress::Inet { host, port } => format!("nbd://{host}:{port}/{export}"),
        };
        let path = PathBuf::from(uri);
        let file = DiskFile::open_operator(&path, common.access)
            .map_err(|error| could_not_open(&path, &error))?;
        let disk = raw_disk(&path, file, &common)?;
        Ok(node(common, Driver::Nbd, &path, disk))
    }

    fn open_raw(&self, mut options: Options, common: Common) -> Result<Node, Refusal> {
        let child = self.child(&mut options, "file")?;
        options.finish()?;
        let under = self.opened(child, common.access, Driver::Raw)?;
        let NodeDisk::Raw(disk) = &under.disk else {
            let what = format!("Node '{}' is no file, host_device or nbd node", under.name);
            return Err(Refusal::generic(what));
        };
        if common.access == Access::Write && under.access == Access::Read {
            return Err(Refusal::generic(format!("Node '{}' is read-only", under.name)));
        }
        let (disk, path) = (NodeDisk::Raw(Arc::clone(disk)), under.path.clone());
        Ok(Node { under: Some(under), ..node(common, Driver::Raw, &path, disk) })
    }

    fn open_image(&self, mut options: Options, common: Common) -> Result<Node, Refusal> {
        let child = self.child(&mut options, "file")?;
        let data: Option<PathBuf> = options.take("data-file")?;
        options.finish()?;
        let under = self.opened(child, common.access, Driver::Qbm)?;
        if under.driver != Driver::File {
            return Err(Refusal::generic(format!("Node '{}' is no file node", under.name)));
        }
        let how = ImageArgs {
            image: under.path.clone(),
            format: DiskFormat::Qbm,
            data_file: data,
            gate: self.gate.clone(),
        };
        let image = how.open_by(under.aio, common.access, common.shared);
        let image = image.map_err(|error| Refusal::generic(format!("{error:#}")))?;
        let path = under.path.clone();
        let disk = NodeDisk::Image(Arc::new(image));
        Ok(Node { under: Some(under), ..node(common, Driver::Qbm, &path, disk) })
    }

    /// What the member `name` says is under a node.
    fn child(&self, options: &mut Options, name: &str) -> Result<Child, Refusal> {
        match options.need_part(name)? {
            Part::Text(there) => self.graph.find(&there).map(Child::There),
            Part::Options(new) => Ok(Child::New(new)),
        }
    }

    fn opened(&self, child: Child, access: Access, driver: Driver) -> Result<Arc<Node>, Refusal> {
        match child {
            Child::There(node) => Ok(node),
            Child::New(options) => self.open_at(options, Some((access, driver))),
        }
    }
}

fn node(common: Common, driver: Driver, path: &Path, disk: NodeDisk) -> Node {
    let Common { name, implicit, access, .. } = common;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Node { name, path, driver, access, disk, under: None, implicit, aio: Aio::Threads }
}

/// `file` as a disk that nobody else uses.
fn raw_disk(path: &Path, file: DiskFile, common: &Common) -> Result<NodeDisk, Refusal> {
    let lock = match common.access {
        Access::Read => Lock::Read,
        Access::Write => Lock::Write,
    };
    let locked = if common.shared { Ok(()) } else { block_on(file.lock(lock)) };
    let disk = locked.and_then(|()| StorageDisk::new(path.display().to_string(), file));
    let disk = disk.map_err(|error| could_not_open(path, &error))?;
    Ok(NodeDisk::Raw(Arc::new(disk)))
}

/// `error` in QEMU's words, which have no numbers.
fn could_not_open(path: &Path, error: &io::Error) -> Refusal {
    let told = error.to_string();
    let told = told.split(" (os error").next().unwrap_or(&told);
    Refusal::generic(format!("Could not open '{}': {told}", path.display()))
}
