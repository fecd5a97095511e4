//! The nodes: the disks that monitors know by their names.
//!
//! Whoever uses the disk of a node (an export, a job, a point) holds the node too, for at least as
//! long. So a node that nobody but the graph holds can be closed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_executor::block_on;
use qbm_qmp::Refusal;

use crate::open::{FileImage, naming};

/// A disk under a name.
pub(in crate::commands) struct Node {
    /// Its name.
    pub(in crate::commands) name: String,
    /// Its file, by a path that holds wherever a client has its working directory.
    pub(in crate::commands) path: PathBuf,
    image: Arc<FileImage>,
}

impl Node {
    /// The image at `path` as the node `name`.
    pub(in crate::commands) fn of_image(name: String, path: &Path, image: FileImage) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self { name, path, image: Arc::new(image) }
    }

    /// Its image.
    pub(in crate::commands) fn image(&self) -> &Arc<FileImage> {
        &self.image
    }

    /// Closes it cleanly.
    fn close(self) -> anyhow::Result<()> {
        let image = Arc::into_inner(self.image).expect("who uses the image holds the node");
        block_on(image.close()).map_err(naming(&self.path))
    }
}

/// All nodes.
#[derive(Default)]
pub(in crate::commands) struct Graph {
    /// In the order in which they came.
    nodes: Mutex<Vec<Arc<Node>>>,
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

    /// Adds `node`, whose name nobody has.
    pub(in crate::commands) fn add(&self, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        self.nodes().push(Arc::clone(&node));
        node
    }

    /// Closes all, once nobody uses them any more; the first error is returned, and the others are
    /// told.
    ///
    /// # Errors
    ///
    /// If one cannot be closed cleanly.
    pub(in crate::commands) fn close(&self) -> anyhow::Result<()> {
        let mut closed = Ok(());
        for node in std::mem::take(&mut *self.nodes()) {
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
