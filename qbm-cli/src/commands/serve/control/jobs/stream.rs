//! `block-stream`: what shows through an overlay comes up into it, until it needs nothing behind it.

use std::sync::Arc;

use qbm_core::graph::Onto;
use qbm_core::job;
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::drive::drive;
use super::options::{Policy, options, yes};
use super::{Kind, New};
use crate::commands::serve::control::Control;
use crate::open::FileDirectory;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Stream {
    #[serde(default)]
    job_id: Option<String>,
    device: String,
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

pub(crate) fn stream(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Stream { job_id, device, speed, on_error, auto_finalize, auto_dismiss, .. } =
        call.arguments()?;
    let node = control.node(&device)?;
    let image = Arc::clone(node.image()?);
    let new = New {
        id: job_id,
        kind: Kind::Stream,
        options: options(speed, (on_error, on_error), (auto_finalize, auto_dismiss))?,
        nodes: vec![&node],
    };
    let work = {
        let node = Arc::clone(&node);
        move |job: &super::Job| {
            let nothing: Option<Onto<'_, FileDirectory>> = None;
            let done = drive(&job.control, job::stream(&image, nothing, &job.control));
            // Whoever uses the image holds the node, too.
            drop((image, node));
            done
        }
    };
    control.jobs.start(control, new, work)?;
    Ok(json!({}))
}
