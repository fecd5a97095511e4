//! `blockdev-backup`: a point of a node, in a directory of points.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::backup::{self, BackupOptions};
use qbm_core::image::Fleece;
use qbm_core::{Error, Granularity};
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::drive::drive;
use super::options::{Policy, options, yes};
use super::{Job, Kind, New};
use crate::commands::backup::{Stored, free_name, open_target};
use crate::commands::serve::control::{Control, points};
use crate::open::{DiskFile, FileDirectory, FileImage, host};

/// `blockdev-backup`; `target` is the directory of the points.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BackUp {
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
    let arguments: BackUp = call.arguments()?;
    let node = control.node(&arguments.device)?;
    let image = Arc::clone(node.image()?);
    if arguments.sync == Sync::Bitmap && arguments.bitmap_mode.is_none() {
        return Err(Refusal::generic("Bitmap sync mode must be given when providing a bitmap"));
    }
    if !arguments.target.is_absolute() {
        let target = arguments.target.display();
        return Err(Refusal::generic(format!("{target}: the target must be an absolute path")));
    }
    let target = open_target(&control.gate, &arguments.target);
    let target = target.map_err(|error| Refusal::generic(format!("{error:#}")))?;
    let limit = arguments.fleece_limit.unwrap_or(image.size());
    let fleece = points::fleece(&target, limit);
    let fleece =
        fleece.map_err(|error| Refusal::generic(format!("its fleecing space: {error}")))?;
    let ends = (arguments.auto_finalize, arguments.auto_dismiss);
    let new = New {
        id: arguments.job_id,
        kind: Kind::Backup,
        options: options(arguments.speed, (Policy::Report, Policy::Report), ends)?,
        nodes: &[&node],
    };
    let options = BackupOptions {
        bitmap: arguments.bitmap.unwrap_or_else(|| "backup".to_owned()),
        granularity: Granularity::DEFAULT,
        name: String::new(),
        full: arguments.sync == Sync::Full,
        require_incremental: arguments.sync == Sync::Incremental,
    };
    let path = arguments.target;
    let work = {
        let node = Arc::clone(&node);
        move |job: &Job| {
            let done = run(job, (&image, fleece), (&target, &path), options);
            // Whoever uses the image holds the node, too.
            drop((image, node));
            done
        }
    };
    control.jobs.start(control, new, work)?;
    Ok(json!({}))
}

/// The whole work of the job.
fn run(
    job: &Job,
    (image, fleece): (&FileImage, Arc<Fleece<DiskFile>>),
    (target, path): (&FileDirectory, &Path),
    mut options: BackupOptions,
) -> Result<(), Error> {
    job.control.begin();
    let created = crate::output::time(host().now());
    options.name = free_name(&created, path);
    let (source, host) = ((image, fleece), host());
    let mut steps = &job.control;
    let stored = backup::run_live(source, target, &options, &host, &mut steps);
    let report = drive(&job.control, stored)?;
    let id = block_on(image.descriptor()).id;
    job.set_outcome("x-point", json!(Stored::new(&report, id, created)));
    Ok(())
}
