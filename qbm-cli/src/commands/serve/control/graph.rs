//! The nodes: the disks that monitors know by their names.
//!
//! Whoever uses the disk of a node (an export, a job, a point, a node over it) holds the node too, for at
//! least as long. So a node that nobody but the graph holds can be closed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_executor::block_on;
use qbm_core::Access;
use qbm_nbd::{Disk, MovingDisk, Place, Placed, StorageDisk};
use qbm_qmp::Refusal;
use serde::Deserialize;

use crate::aio::Aio;
use crate::open::{DiskFile, FileDirectory, FileImage, naming};

/// What makes a disk of what is under it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands) enum Driver {
    /// An image; under it is the file of its descriptor.
    Qbm,
    /// The bytes of what is under it.
    Raw,
    /// A file.
    File,
    /// A block device.
    HostDevice,
    /// The disk of a server.
    Nbd,
}

impl Driver {
    /// Its name.
    pub(in crate::commands) fn name(self) -> &'static str {
        match self {
            Self::Qbm => "qbm",
            Self::Raw => "raw",
            Self::File => "file",
            Self::HostDevice => "host_device",
            Self::Nbd => "nbd",
        }
    }
}

/// The disk of a node.
pub(in crate::commands) enum NodeDisk {
    /// An image.
    Image(Arc<FileImage>),
    /// Bytes as they are.
    Raw(Arc<StorageDisk<DiskFile>>),
    /// None: it is for the image over it alone, which opens it.
    Held,
}

/// A disk under a name.
pub(in crate::commands) struct Node {
    /// Its name.
    pub(in crate::commands) name: String,
    /// Its file, by a path that holds wherever a client has its working directory, or its address.
    pub(in crate::commands) path: PathBuf,
    pub(in crate::commands) driver: Driver,
    pub(in crate::commands) access: Access,
    pub(in crate::commands) disk: NodeDisk,
    /// What is under it.
    pub(in crate::commands) under: Option<Arc<Node>>,
    /// Whether it goes with the node over it.
    pub(in crate::commands) implicit: bool,
    /// How its bytes are moved.
    pub(in crate::commands) aio: Aio,
}

impl Node {
    /// The image at `path` as the node `name`.
    pub(in crate::commands) fn of_image(name: String, path: &Path, image: Arc<FileImage>) -> Self {
        Self {
            name,
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            driver: Driver::Qbm,
            access: image.access(),
            disk: NodeDisk::Image(image),
            under: None,
            implicit: false,
            aio: Aio::Threads,
        }
    }

    /// Its image.
    ///
    /// # Errors
    ///
    /// If it is none, and so has no bitmaps.
    pub(in crate::commands) fn image(&self) -> Result<&Arc<FileImage>, Refusal> {
        match &self.disk {
            NodeDisk::Image(image) => Ok(image),
            NodeDisk::Raw(_) | NodeDisk::Held => {
                let (name, driver) = (&self.name, self.driver.name());
                let what = format!("Node '{name}' of driver '{driver}' has no bitmaps");
                Err(Refusal::generic(what))
            }
        }
    }

    /// Its disk, for what is done to any disk.
    pub(super) fn operand(&self) -> qbm_core::Disk<'_, FileDirectory> {
        match &self.disk {
            NodeDisk::Image(image) => qbm_core::Disk::Image(image),
            NodeDisk::Raw(disk) => {
                let (name, file, size) = (&self.name, disk.storage(), disk.size());
                qbm_core::Disk::File { name, file, size }
            }
            NodeDisk::Held => unreachable!("there is a node over it"),
        }
    }

    /// Lets bitmaps that are in memory only go along with the disk, which is about to move to `to`.
    ///
    /// # Errors
    ///
    /// As for [`qbm_core::Image::carry_bitmaps`].
    pub(super) async fn carry_bitmaps(&self, to: &Self) -> qbm_core::Result<()> {
        match (&self.disk, &to.disk) {
            (NodeDisk::Image(from), NodeDisk::Image(to)) => from.carry_bitmaps(to).await,
            _ => Ok(()),
        }
    }

    /// Closes it cleanly.
    pub(super) fn close(self) -> anyhow::Result<()> {
        match self.disk {
            NodeDisk::Image(image) => {
                let image = Arc::into_inner(image).expect("who uses the image holds the node");
                block_on(image.close()).map_err(naming(&self.path))
            }
            NodeDisk::Raw(disk) if self.access == Access::Write => Ok(disk.flush()?),
            NodeDisk::Raw(_) | NodeDisk::Held => Ok(()),
        }
    }
}

impl Placed for Node {
    type Directory = FileDirectory;

    fn place(&self) -> Place<'_, FileDirectory> {
        match &self.disk {
            NodeDisk::Image(image) => Place::Image(image),
            NodeDisk::Raw(disk) => Place::Other(&**disk),
            NodeDisk::Held => unreachable!("nothing is exported of it"),
        }
    }
}

/// The disk of a node as it is exported: a job may move it to another node.
pub(in crate::commands) type ExportedDisk = MovingDisk<Node>;

/// All nodes.
#[derive(Default)]
pub(in crate::commands) struct Graph {
    /// In the order in which they came; what is under a node came before it.
    nodes: Mutex<Vec<Arc<Node>>>,
    /// How many names have been made up.
    named: AtomicU64,
    /// What is exported of them.
    disks: Mutex<Vec<Weak<ExportedDisk>>>,
}

impl Graph {
    /// All of them.
    pub(in crate::commands) fn all(&self) -> Vec<Arc<Node>> {
        self.nodes().clone()
    }

    /// The node `name`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Node>, Refusal> {
        let node = self.nodes().iter().find(|node| node.name == name).cloned();
        node.ok_or_else(|| {
            Refusal::generic(format!("Cannot find device='{name}' nor node-name='{name}'"))
        })
    }

    /// Whether `node` is under another one.
    pub(super) fn is_under(&self, node: &Arc<Node>) -> bool {
        let under =
            |other: &Arc<Node>| other.under.as_ref().is_some_and(|it| Arc::ptr_eq(it, node));
        self.nodes().iter().any(under)
    }

    /// A name that nobody else can have given.
    pub(super) fn fresh_name(&self) -> String {
        format!("#block{:03}", self.named.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds `node`, whose name nobody has.
    pub(in crate::commands) fn add(&self, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        self.adopt(&node);
        node
    }

    /// Adds `node`, which a job has made.
    pub(super) fn adopt(&self, node: &Arc<Node>) {
        self.nodes().push(Arc::clone(node));
    }

    /// Closes the node `name` and what is under it for it alone, if nobody uses it.
    ///
    /// # Errors
    ///
    /// If it is in use or not there, or cannot be closed cleanly; then it is gone all the same.
    pub(super) fn remove(&self, name: &str) -> Result<(), Refusal> {
        let missing = || Refusal::generic(format!("Failed to find node with node-name='{name}'"));
        let node = self.find(name).map_err(|_| missing())?;
        if node.implicit {
            return Err(Refusal::generic(format!("Node {name} is not owned by the monitor")));
        }
        // The graph's and ours.
        if Arc::strong_count(&node) > 2 {
            return Err(Refusal::generic(format!("Node {name} is in use")));
        }
        self.nodes().retain(|other| !Arc::ptr_eq(other, &node));
        self.close_one(node).map_err(|error| Refusal::generic(format!("{error:#}")))
    }

    /// Closes `node`, which nobody uses, and what is under it for it alone.
    fn close_one(&self, node: Arc<Node>) -> anyhow::Result<()> {
        let mut node = Arc::into_inner(node).expect("nobody uses it");
        let under = node.under.take().filter(|under| under.implicit);
        let closed = node.close();
        if let Some(under) = under {
            self.nodes().retain(|other| !Arc::ptr_eq(other, &under));
            return closed.and(self.close_one(under));
        }
        closed
    }

    /// Closes what has come since there were `count` nodes, for one that could not be opened.
    pub(super) fn forget_from(&self, count: usize) {
        let gone = self.nodes().split_off(count);
        for node in gone.into_iter().rev() {
            // They were opened in vain, and nothing was written to them.
            let _closed = Arc::into_inner(node).map(Node::close);
        }
    }

    /// The disk of `node`, to be exported.
    pub(in crate::commands) fn disk(&self, node: &Arc<Node>) -> Arc<ExportedDisk> {
        let disk = Arc::new(MovingDisk::new(Arc::clone(node)));
        self.disks().push(Arc::downgrade(&disk));
        disk
    }

    /// Moves all that is exported of the node `from` to the node `to`.
    pub(super) fn move_disks(&self, from: &Arc<Node>, to: &Arc<Node>) {
        let mut disks = self.disks();
        disks.retain(|disk| disk.strong_count() > 0);
        for disk in disks.iter().filter_map(Weak::upgrade) {
            if Arc::ptr_eq(&disk.at(), from) {
                disk.move_to(Arc::clone(to));
            }
        }
    }

    fn disks(&self) -> MutexGuard<'_, Vec<Weak<ExportedDisk>>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all, once nobody uses them any more; the first error is returned, and the others are
    /// told.
    ///
    /// # Errors
    ///
    /// If one cannot be closed cleanly.
    pub(in crate::commands) fn close(&self) -> anyhow::Result<()> {
        let mut closed = Ok(());
        let nodes = std::mem::take(&mut *self.nodes());
        // What is over another one first.
        for node in nodes.into_iter().rev() {
            let done = Arc::into_inner(node).expect("all who used it have ended").close();
            match (&closed, done) {
                (Ok(()), done) => closed = done,
                (Err(_), Ok(())) => {}
                (Err(_), Err(error)) => eprintln!("qbm: {error:#}"),
            }
        }
        closed
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
