//! `blockdev-mirror`: a copy of a node that keeps up with it, until the disk moves there.

use std::sync::Arc;

use qbm_core::job::{self, CopyMode, MirrorOptions, MirrorSync};
use qbm_core::{Access, Granularity};
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::drive::drive;
use super::options::{Policy, options, yes};
use super::{Kind, New};
use crate::commands::serve::control::Control;

/// The most bytes that are copied together because one of them was written to.
const MAX_GRANULARITY: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Mirror {
    #[serde(default)]
    job_id: Option<String>,
    device: String,
    target: String,
    #[serde(default)]
    replaces: Option<String>,
    sync: Sync,
    #[serde(default)]
    speed: i64,
    #[serde(default)]
    granularity: u64,
    /// How much is under way at a time: a hint.
    #[serde(default)]
    buf_size: i64,
    #[serde(default)]
    on_source_error: Policy,
    #[serde(default)]
    on_target_error: Policy,
    /// There are no filters.
    #[serde(default, rename = "filter-node-name")]
    _filter_node_name: Option<String>,
    #[serde(default)]
    copy_mode: Mode,
    #[serde(default = "yes")]
    auto_finalize: bool,
    #[serde(default = "yes")]
    auto_dismiss: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Sync {
    Full,
    Top,
    None,
    Incremental,
    Bitmap,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    #[default]
    Background,
    WriteBlocking,
}

pub(crate) fn mirror(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments: Mirror = call.arguments()?;
    let source = control.node(&arguments.device)?;
    let target = control.node(&arguments.target)?;
    if Arc::ptr_eq(&source, &target) {
        return Err(Refusal::generic("Can't mirror node into itself"));
    }
    if arguments.replaces.as_ref().is_some_and(|replaced| *replaced != source.name) {
        return Err(Refusal::generic("Parameter 'replaces' can only be the node that is mirrored"));
    }
    if arguments.buf_size < 0 {
        return Err(Refusal::generic("Invalid parameter 'buf-size'"));
    }
    let image = Arc::clone(source.image()?);
    if target.access == Access::Read {
        return Err(Refusal::generic(format!("Node '{}' is read-only", target.name)));
    }
    if control.graph.is_under(&target) {
        return Err(Refusal::generic(format!("Node '{}' is in use", target.name)));
    }
    if control.exports_node(&target) {
        let what =
            format!("Node '{}' is exported: nobody but the job may write to it", target.name);
        return Err(Refusal::generic(what));
    }
    let how = how(&arguments)?;
    let policies = (arguments.on_source_error, arguments.on_target_error);
    let ends = (arguments.auto_finalize, arguments.auto_dismiss);
    let new = New {
        id: arguments.job_id,
        kind: Kind::Mirror { blocking: how.copy_mode == CopyMode::WriteBlocking },
        options: options(arguments.speed, policies, ends)?,
        nodes: vec![&source, &target],
    };
    let graph = Arc::clone(&control.graph);
    let work = {
        let (source, target) = (Arc::clone(&source), Arc::clone(&target));
        move |job: &super::Job| {
            let pivot = async || {
                source.carry_bitmaps(&target).await?;
                graph.move_disks(&source, &target);
                Ok(())
            };
            let mirror = job::mirror(&image, target.operand(), &how, &job.control, pivot);
            let done = drive(&job.control, mirror);
            // Whoever uses the image holds the node, too.
            drop((image, source, target));
            done
        }
    };
    control.jobs.start(control, new, work)?;
    Ok(json!({}))
}

/// How it is mirrored.
fn how(arguments: &Mirror) -> Result<MirrorOptions, Refusal> {
    let unsupported = |sync| Err(Refusal::generic(format!("Sync mode '{sync}' not supported")));
    let sync = match arguments.sync {
        Sync::Full => MirrorSync::Full,
        Sync::Top => MirrorSync::Above(1),
        Sync::None => MirrorSync::None,
        Sync::Incremental => return unsupported("incremental"),
        Sync::Bitmap => return unsupported("bitmap"),
    };
    let copy_mode = match arguments.copy_mode {
        Mode::Background => CopyMode::Background,
        Mode::WriteBlocking => CopyMode::WriteBlocking,
    };
    Ok(MirrorOptions { sync, granularity: granularity(arguments.granularity)?, copy_mode })
}

/// Bytes that are copied together; 0 is the default.
fn granularity(bytes: u64) -> Result<Granularity, Refusal> {
    if bytes == 0 {
        return Ok(Granularity::DEFAULT);
    }
    if !(Granularity::MIN.bytes()..=MAX_GRANULARITY).contains(&bytes) {
        let what = "Parameter 'granularity' expects a value in range [512B, 64MB]";
        return Err(Refusal::generic(what));
    }
    let what = || Refusal::generic("Parameter 'granularity' expects a power of 2");
    Granularity::from_bytes(bytes).ok_or_else(what)
}
