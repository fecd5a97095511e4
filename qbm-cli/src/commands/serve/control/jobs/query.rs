//! What is known of jobs.

use std::sync::Arc;

use qbm_core::job::{IoStatus, Status};
use qbm_qmp::{Call, Refusal};
use serde_json::{Value, json};

use super::{Job, Kind, events};
use crate::commands::serve::control::Control;

pub(crate) fn query(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    let told = |job: &Arc<Job>| {
        let info = job.control.info();
        let mut facts = json!({
            "id": job.control.id(),
            "type": job.kind.name(),
            "status": info.status.to_string(),
            "current-progress": info.progress.done,
            "total-progress": info.progress.total,
        });
        if let Some(error) = info.error {
            facts["error"] = json!(error);
        }
        facts
    };
    Ok(control.jobs.all().iter().map(told).collect())
}

pub(crate) fn query_block_jobs(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    Ok(control.jobs.all().iter().map(|job| block_facts(job)).collect())
}

/// A `BlockJobInfo`.
fn block_facts(job: &Job) -> Value {
    let info = job.control.info();
    let options = job.control.options();
    let ready = matches!(info.status, Status::Ready | Status::Standby);
    let mut facts = events::facts(job.control.id(), job.kind, &info);
    facts["busy"] = json!(info.status == Status::Running);
    facts["paused"] = json!(info.paused);
    facts["ready"] = json!(ready);
    facts["io-status"] = json!(match info.io_status {
        IoStatus::Ok => "ok",
        IoStatus::Failed => "failed",
        IoStatus::NoSpace => "nospace",
    });
    facts["status"] = json!(info.status.to_string());
    facts["auto-finalize"] = json!(options.auto_finalize);
    facts["auto-dismiss"] = json!(options.auto_dismiss);
    if let Kind::Mirror { blocking } = job.kind {
        facts["actively-synced"] = json!(blocking && ready);
    }
    if let Some(error) = info.error {
        facts["error"] = json!(error);
    }
    facts
}
