//! What monitors are told of jobs, as QEMU tells it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use qbm_core::job::{Action, JobEvent, JobInfo, JobOptions, Observer, Side, Status};
use serde_json::{Value, json};

use super::Kind;
use crate::commands::serve::control::Control;

/// Tells all monitors of the job `id`; `outcome` is told when it has ended well.
pub(super) fn observer(
    control: &Arc<Control>,
    id: &str,
    (kind, options): (Kind, &JobOptions),
    outcome: Arc<Mutex<Option<(&'static str, Value)>>>,
) -> Observer {
    // Not itself: the control has the job.
    let control = Arc::downgrade(control);
    let (id, auto_finalize) = (id.to_owned(), options.auto_finalize);
    let was_ready = AtomicBool::new(false);
    Box::new(move |event, info| {
        let Some(control) = control.upgrade() else { return };
        let status = match event {
            JobEvent::Status(status) => status,
            JobEvent::Trouble { side, action, .. } => {
                return control.emit("BLOCK_JOB_ERROR", &trouble(&id, side, action));
            }
        };
        if status == Status::Concluded {
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (name, facts) = ended(&id, kind, info, outcome);
            control.emit(name, &facts);
        }
        let change = json!({ "id": id, "status": status.to_string() });
        control.emit("JOB_STATUS_CHANGE", &change);
        if status == Status::Ready && !was_ready.swap(true, Ordering::Relaxed) {
            control.emit("BLOCK_JOB_READY", &facts(&id, kind, info));
        }
        if status == Status::Pending && !auto_finalize {
            control.emit("BLOCK_JOB_PENDING", &json!({ "type": kind.name(), "id": id }));
        }
    })
}

/// What events and `query-block-jobs` tell of a job.
pub(super) fn facts(id: &str, kind: Kind, info: &JobInfo) -> Value {
    json!({
        "type": kind.name(),
        "device": id,
        "len": info.progress.total,
        "offset": info.progress.done,
        "speed": info.speed,
    })
}

fn ended(
    id: &str,
    kind: Kind,
    info: &JobInfo,
    outcome: Option<(&'static str, Value)>,
) -> (&'static str, Value) {
    let mut facts = facts(id, kind, info);
    if info.cancelled {
        return ("BLOCK_JOB_CANCELLED", facts);
    }
    match (&info.error, outcome) {
        (Some(error), _) => facts["error"] = json!(error),
        (None, Some((name, value))) => facts[name] = value,
        (None, None) => {}
    }
    ("BLOCK_JOB_COMPLETED", facts)
}

fn trouble(id: &str, side: Side, action: Action) -> Value {
    let operation = match side {
        Side::Source => "read",
        Side::Target => "write",
    };
    let action = match action {
        Action::Report => "report",
        Action::Ignore => "ignore",
        Action::Stop => "stop",
    };
    json!({ "device": id, "operation": operation, "action": action })
}
