//! `block-commit`: what images of a chain have goes down into one behind them.
//!
//! The images behind a node are no nodes themselves: they are named by their files. Whoever commits
//! into one [locks](qbm_core::Image::lock_layer) it and opens it besides; the node still reads it as before.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::job::{self, CopyMode, JobControl, MirrorOptions, MirrorSync};
use qbm_core::{Access, Error, Granularity, Result};
use qbm_nbd::StorageDisk;
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::drive::drive;
use super::options::{Policy, options, yes};
use super::{Kind, New};
use crate::aio::Aio;
use crate::chain::Behind;
use crate::commands::serve::control::Control;
use crate::commands::serve::control::graph::{Driver, Node, NodeDisk};
use crate::disk::{DiskFormat, OpenDisk};
use crate::open::FileImage;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Commit {
    #[serde(default)]
    job_id: Option<String>,
    device: String,
    #[serde(default)]
    base: Option<String>,
    #[serde(default)]
    base_node: Option<String>,
    #[serde(default)]
    top: Option<String>,
    #[serde(default)]
    top_node: Option<String>,
    #[serde(default)]
    speed: i64,
    #[serde(default)]
    on_error: Policy,
    /// There are no filters.
    #[serde(default, rename = "filter-node-name")]
    _filter_node_name: Option<String>,
    #[serde(default = "yes")]
    auto_finalize: bool,
    #[serde(default = "yes")]
    auto_dismiss: bool,
}

/// Which layers of a node are committed: those from `top` to above `base`, counted from 0 at the node.
#[derive(Clone, Copy)]
struct Layers {
    top: usize,
    base: usize,
}

pub(crate) fn commit(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments: Commit = call.arguments()?;
    let node = control.node(&arguments.device)?;
    let layers = layers(&arguments, &node)?;
    if node.access == Access::Read {
        return Err(Refusal::generic(format!("Node '{}' is read-only", node.name)));
    }
    let Commit { job_id, speed, on_error, auto_finalize, auto_dismiss, .. } = arguments;
    let new = New {
        id: job_id,
        kind: Kind::Commit,
        options: options(speed, (on_error, on_error), (auto_finalize, auto_dismiss))?,
        nodes: vec![&node],
    };
    let work = {
        let (control, node) = (Arc::clone(control), Arc::clone(&node));
        move |job: &super::Job| {
            let work = Work { control: &control, node: &node, layers };
            let done = match layers.top {
                0 => work.commit_all(&job.control),
                _ => work.commit_below(&job.control),
            };
            // Whoever hears that the job has ended may close it.
            drop(node);
            done
        }
    };
    control.jobs.start(control, new, work)?;
    Ok(json!({}))
}

/// The layers that `arguments` name.
fn layers(arguments: &Commit, node: &Node) -> Result<Layers, Refusal> {
    let image = node.image()?;
    if arguments.top_node.as_ref().is_some_and(|top| *top != node.name) {
        return Err(no_node("top"));
    }
    if arguments.base_node.is_some() {
        return Err(no_node("base"));
    }
    let find = |name: &String| {
        let found = (0..image.layers()).find(|depth| is_named(node, image, *depth, name));
        let what = || format!("Can't find '{name}' in the backing chain of '{}'", node.name);
        found.ok_or_else(|| Refusal::generic(what()))
    };
    let top = arguments.top.as_ref().map_or(Ok(0), find)?;
    let base = arguments.base.as_ref().map_or(Ok(image.layers() - 1), find)?;
    if base == top {
        return Err(Refusal::generic("cannot commit an image into itself"));
    }
    if base < top {
        return Err(Refusal::generic("'base' is not behind 'top'"));
    }
    Ok(Layers { top, base })
}

fn no_node(which: &str) -> Refusal {
    Refusal::generic(format!(
        "'{which}-node' can only be the device: what is behind it has no nodes; name its file by '{which}'"
    ))
}

/// Whether `name` means the layer at `depth`: by its path, or as the descriptor has it.
fn is_named(node: &Node, image: &FileImage, depth: usize, name: &str) -> bool {
    image.layer_image(depth).file == name || layer(node, image, depth).is(Path::new(name))
}

fn layer(node: &Node, image: &FileImage, depth: usize) -> Behind {
    Behind::new(&node.path, image.layer_image(depth).clone())
}

/// What a commit does.
struct Work<'a> {
    control: &'a Control,
    node: &'a Arc<Node>,
    layers: Layers,
}

impl Work<'_> {
    /// Commits the node itself, to which guests write; they go on in the base once the job is completed.
    fn commit_all(&self, job: &JobControl) -> Result<()> {
        let (image, depth) = (self.image(), self.layers.base);
        block_on(image.lock_layer(depth))?;
        let base = match self.open_base_node() {
            Ok(base) => Arc::new(base),
            Err(error) => return block_on(image.unlock_layer(depth)).and(Err(error)),
        };
        let graph = &self.control.graph;
        let pivot = async || {
            self.node.carry_bitmaps(&base).await?;
            image.pass_lock(depth, base.operand()).await?;
            graph.adopt(&base);
            graph.move_disks(self.node, &base);
            Ok(())
        };
        let how = MirrorOptions {
            sync: MirrorSync::Above(depth),
            granularity: Granularity::DEFAULT,
            copy_mode: CopyMode::Background,
        };
        let done = drive(job, job::mirror(image, base.operand(), &how, job, pivot));
        // The graph has it, unless the disk has stayed.
        let Some(base) = Arc::into_inner(base) else { return done };
        let (name, closed) = (base.path.display().to_string(), base.close());
        done.and(closed.map_err(|error| told(&name, error)))
            .and(block_on(image.unlock_layer(depth)))
    }

    /// Commits what is behind the node, and puts the base behind what was over it.
    fn commit_below(&self, job: &JobControl) -> Result<()> {
        let (image, Layers { top, base: depth }) = (self.image(), self.layers);
        block_on(image.lock_layer(depth))?;
        let done = self.open_base().and_then(|base| {
            let take_out = async || image.take_out_between(top - 1, depth).await;
            let done = self.open_top().and_then(|opened| {
                let onto = (base.disk(), depth - top);
                drive(job, job::commit(&opened, onto, job, take_out))
            });
            let closed = base.close().map_err(|error| told(self.name(depth), error));
            done.and(closed)
        });
        let unlocked = block_on(image.unlock_layer(depth));
        done.and(unlocked)
    }

    fn image(&self) -> &Arc<FileImage> {
        self.node.image().expect("it was looked at when the job began")
    }

    fn name(&self, depth: usize) -> &str {
        &self.image().layer_image(depth).file
    }

    /// What is committed, where the node has it locked.
    fn open_top(&self) -> Result<Box<FileImage>> {
        let (name, path) = (self.name(self.layers.top), self.layer(self.layers.top).path());
        let place = (path.as_path(), DiskFormat::Qbm);
        match OpenDisk::open(&self.control.gate, place, Access::Read, true) {
            Ok(OpenDisk::Image(top)) => Ok(top),
            Ok(OpenDisk::Raw { .. }) => unreachable!("it was opened as an image"),
            Err(error) => Err(told(name, error)),
        }
    }

    /// Where it goes.
    fn open_base(&self) -> Result<OpenDisk> {
        let depth = self.layers.base;
        let opened = self.layer(depth).open_locked(&self.control.gate);
        opened.map_err(|error| told(self.name(depth), error))
    }

    /// The same as a node, at least as long as the disk.
    fn open_base_node(&self) -> Result<Node> {
        let (base, size) = (self.open_base()?, self.image().size());
        if base.disk().size() < size {
            block_on(base.disk().resized(size))?;
        }
        let (driver, disk) = match base {
            OpenDisk::Image(image) => (Driver::Qbm, NodeDisk::Image(Arc::from(image))),
            OpenDisk::Raw { name, file, .. } => {
                let disk = StorageDisk::new(name.clone(), file);
                let disk = disk.map_err(|error| told(&name, error.into()))?;
                (Driver::Raw, NodeDisk::Raw(Arc::new(disk)))
            }
        };
        let path = self.layer(self.layers.base).path();
        Ok(Node {
            name: self.control.graph.fresh_name(),
            path: path.canonicalize().unwrap_or(path),
            driver,
            access: Access::Write,
            disk,
            under: None,
            implicit: false,
            aio: Aio::default(),
        })
    }

    fn layer(&self, depth: usize) -> Behind {
        layer(self.node, self.image(), depth)
    }
}

/// `error` as that of a job.
fn told(name: &str, error: anyhow::Error) -> Error {
    error.downcast().unwrap_or_else(|error| Error::Io {
        file: name.to_owned(),
        action: "open",
        error: io::Error::other(format!("{error:#}")),
    })
}
