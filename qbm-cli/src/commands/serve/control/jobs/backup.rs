//! `blockdev-backup`: a point of a node, in a directory of points.

use std::path::PathBuf;
use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::backup::{self, BackupOptions};
use qbm_core::image::{Fleece, FrozenPoint};
use qbm_core::job::JobOptions;
use qbm_core::{Error, Granularity};
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::drive::drive;
use super::options::{Policy, options, yes};
use super::{Job, Kind, New};
use crate::commands::backup::{Stored, free_name, open_target};
use crate::commands::serve::control::transaction::{self, Action};
use crate::commands::serve::control::{Control, Node, points};
use crate::open::{DiskFile, FileDirectory, FileImage, host};

/// `blockdev-backup`; `target` is the directory of the points.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BackUp {
    #[serde(default)]
    job_id: Option<String>,
    device: String,
    target: PathBuf,
    sync: Sync,
    #[serde(default)]
    bitmap: Option<String>,
    #[serde(default)]
    bitmap_mode: Option<BitmapMode>,
    #[serde(default)]
    speed: i64,
    #[serde(default = "yes")]
    auto_finalize: bool,
    #[serde(default = "yes")]
    auto_dismiss: bool,
    #[serde(default, rename = "x-fleece-limit")]
    fleece_limit: Option<u64>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Sync {
    /// All of the disk.
    Full,
    /// What the bitmap says, and nothing else.
    Incremental,
    /// What the bitmap says, or all where it does not say enough.
    Bitmap,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum BitmapMode {
    OnSuccess,
}

pub(crate) fn back_up(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    transaction::run_one(control, Action::BlockdevBackup(call.arguments()?))
}

/// A backup in whose way nothing has been found yet.
pub(crate) struct PlannedBackup {
    pub(crate) node: Arc<Node>,
    image: Arc<FileImage>,
    /// The directory of the points, and where that is.
    pub(crate) target: FileDirectory,
    pub(crate) path: PathBuf,
    pub(crate) fleece: Arc<Fleece<DiskFile>>,
    pub(crate) options: BackupOptions,
    id: Option<String>,
    how: JobOptions,
}

impl PlannedBackup {
    pub(crate) fn new(control: &Arc<Control>, arguments: BackUp) -> Result<Self, Refusal> {
        let node = control.node(&arguments.device)?;
        let image = Arc::clone(node.image()?);
        control.jobs.refuse_used(&node.name)?;
        if arguments.sync == Sync::Bitmap && arguments.bitmap_mode.is_none() {
            return Err(Refusal::generic("Bitmap sync mode must be given when providing a bitmap"));
        }
        if !arguments.target.is_absolute() {
            let target = arguments.target.display();
            return Err(Refusal::generic(format!("{target}: the target must be an absolute path")));
        }
        let ends = (arguments.auto_finalize, arguments.auto_dismiss);
        let how = options(arguments.speed, (Policy::Report, Policy::Report), ends)?;
        let target = open_target(&control.gate, &arguments.target);
        let target = target.map_err(|error| Refusal::generic(format!("{error:#}")))?;
        let limit = arguments.fleece_limit.unwrap_or(image.size());
        let fleece = points::fleece(&target, limit);
        let fleece =
            fleece.map_err(|error| Refusal::generic(format!("its fleecing space: {error}")))?;
        let options = BackupOptions {
            bitmap: arguments.bitmap.unwrap_or_else(|| "backup".to_owned()),
            granularity: Granularity::DEFAULT,
            name: String::new(),
            full: arguments.sync == Sync::Full,
            require_incremental: arguments.sync == Sync::Incremental,
        };
        let (path, id) = (arguments.target, arguments.job_id);
        Ok(Self { node, image, target, path, fleece, options, id, how })
    }

    /// The job that it is to be.
    pub(crate) fn job(&self) -> New<'_> {
        let nodes = vec![&self.node];
        New { id: self.id.clone(), kind: Kind::Backup, options: self.how, nodes }
    }

    /// The whole work of the job, once its point is taken.
    pub(crate) fn work(
        self,
        point: FrozenPoint<DiskFile>,
    ) -> impl FnOnce(&Job) -> Result<(), Error> + Send + 'static {
        move |job| {
            let done = self.store(job, point);
            // Whoever uses the image holds the node, too.
            drop(self);
            done
        }
    }

    fn store(&self, job: &Job, point: FrozenPoint<DiskFile>) -> Result<(), Error> {
        let created = crate::output::time(host().now());
        let options =
            BackupOptions { name: free_name(&created, &self.path), ..self.options.clone() };
        let (source, host) = ((&*self.image, point), host());
        let mut steps = &job.control;
        let stored = backup::store(source, &self.target, &options, &host, &mut steps);
        let report = drive(&job.control, stored)?;
        let id = block_on(self.image.descriptor()).id;
        job.set_outcome("x-point", json!(Stored::new(&report, id, created)));
        Ok(())
    }
}
