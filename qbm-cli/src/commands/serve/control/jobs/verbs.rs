//! What can be asked of a job by its id. Each has two names: one of any job, one of a block job.

use std::sync::Arc;

use qbm_core::job::{Refused, Verb};
use qbm_qmp::{Call, Class, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Job, options};
use crate::commands::serve::control::Control;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ById {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByDevice {
    device: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    device: String,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSpeed {
    device: String,
    speed: i64,
}

type Answer = Result<Value, Refusal>;

/// Asks `verb` of the job with the `id` of `call`.
fn ask(control: &Control, call: Call, verb: fn(&Job) -> Result<(), Refused>) -> Answer {
    let ById { id } = call.arguments()?;
    let job = control.jobs.find(&id).ok_or_else(|| Refusal::generic("Job not found"))?;
    answer(verb(&job))
}

/// The same for a block job, by its `device`.
fn ask_block_job(control: &Control, call: Call, verb: fn(&Job) -> Result<(), Refused>) -> Answer {
    let ByDevice { device } = call.arguments()?;
    answer(verb(&*block_job(control, &device)?))
}

fn block_job(control: &Control, device: &str) -> Result<Arc<Job>, Refusal> {
    let what = || Refusal::new(Class::DeviceNotActive, format!("Block job '{device}' not found"));
    control.jobs.find(device).ok_or_else(what)
}

fn answer(asked: Result<(), Refused>) -> Answer {
    asked.map(|()| json!({})).map_err(|refused| Refusal::generic(refused.to_string()))
}

pub(crate) fn pause(control: &Arc<Control>, call: Call) -> Answer {
    ask(control, call, |job| job.control.pause())
}

pub(crate) fn pause_block_job(control: &Arc<Control>, call: Call) -> Answer {
    ask_block_job(control, call, |job| job.control.pause())
}

pub(crate) fn resume(control: &Arc<Control>, call: Call) -> Answer {
    ask(control, call, |job| job.control.resume())
}

pub(crate) fn resume_block_job(control: &Arc<Control>, call: Call) -> Answer {
    ask_block_job(control, call, |job| job.control.resume())
}

pub(crate) fn complete(control: &Arc<Control>, call: Call) -> Answer {
    ask(control, call, |job| job.control.complete())
}

pub(crate) fn complete_block_job(control: &Arc<Control>, call: Call) -> Answer {
    ask_block_job(control, call, |job| job.control.complete())
}

pub(crate) fn finalize(control: &Arc<Control>, call: Call) -> Answer {
    ask(control, call, |job| job.control.finalize())
}

pub(crate) fn cancel(control: &Arc<Control>, call: Call) -> Answer {
    ask(control, call, |job| job.control.cancel())
}

/// Without force, a mirror that is in step ends well, and stays a copy.
pub(crate) fn cancel_block_job(control: &Arc<Control>, call: Call) -> Answer {
    let Cancel { device, force } = call.arguments()?;
    let job = block_job(control, &device)?;
    answer(if force { job.control.cancel() } else { job.control.cancel_gently() })
}

pub(crate) fn set_speed(control: &Arc<Control>, call: Call) -> Answer {
    let SetSpeed { device, speed } = call.arguments()?;
    let job = block_job(control, &device)?;
    match options::speed(speed) {
        // That it is too late for any speed comes first, as in QEMU.
        Err(refused) if job.control.info().status.accepts(Verb::SetSpeed) => Err(refused),
        speed => answer(job.control.set_speed(speed.unwrap_or_default())),
    }
}

pub(crate) fn dismiss(control: &Arc<Control>, call: Call) -> Answer {
    let dismissed = ask(control, call, |job| job.control.dismiss());
    control.jobs.forget_gone();
    dismissed
}
