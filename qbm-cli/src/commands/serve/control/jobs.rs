//! Jobs: backups under way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use futures_executor::block_on;
use qbm_core::Granularity;
use qbm_core::backup::{self, BackupOptions};
use qbm_core::image::Fleece;
use qbm_qmp::{Call, Class, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Control, Node, points};
use crate::commands::backup::{Stored, free_name, open_target};
use crate::open::{DiskFile, FileDirectory, FileImage, host};

/// The most jobs at a time, those that wait to be dismissed included.
const MAX_JOBS: usize = 16;

/// The jobs by their ids.
#[derive(Default)]
pub(super) struct Jobs {
    jobs: Mutex<BTreeMap<String, Arc<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Job {
    id: String,
    /// Dismiss it as soon as it has ended.
    auto_dismiss: bool,
    fleece: Arc<Fleece<DiskFile>>,
    done: AtomicU64,
    total: AtomicU64,
    state: Mutex<JobState>,
}

struct JobState {
    status: &'static str,
    cancelled: bool,
    error: Option<String>,
}

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
    #[serde(default = "yes")]
    auto_finalize: bool,
    #[serde(default = "yes")]
    auto_dismiss: bool,
    #[serde(default, rename = "x-fleece-limit")]
    fleece_limit: Option<u64>,
}

fn yes() -> bool {
    true
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobArguments {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelArguments {
    device: String,
    #[serde(default, rename = "force")]
    _force: bool,
}

pub(super) fn back_up(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let arguments: BackUp = call.arguments()?;
    let node = control.node(&arguments.device)?;
    let image = Arc::clone(node.image()?);
    if !arguments.auto_finalize {
        return Err(Refusal::generic("Parameter 'auto-finalize' does not accept value 'false'"));
    }
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
    let job = control.jobs.add(control, &arguments, fleece)?;
    let (ours, path) = (Arc::clone(control), arguments.target);
    let options = BackupOptions {
        bitmap: arguments.bitmap.unwrap_or_else(|| "backup".to_owned()),
        granularity: Granularity::DEFAULT,
        name: String::new(),
        full: arguments.sync == Sync::Full,
        require_incremental: arguments.sync == Sync::Incremental,
    };
    let work = move || job.run(&ours, (node, image), (&target, &path), options);
    control.jobs.threads().push(std::thread::spawn(work));
    Ok(json!({}))
}

impl Jobs {
    fn add(
        &self,
        control: &Control,
        arguments: &BackUp,
        fleece: Arc<Fleece<DiskFile>>,
    ) -> Result<Arc<Job>, Refusal> {
        let id = arguments.job_id.clone().unwrap_or_else(|| arguments.device.clone());
        let mut jobs = self.jobs();
        if jobs.contains_key(&id) {
            return Err(Refusal::generic(format!("Job ID '{id}' already in use")));
        }
        if jobs.len() >= MAX_JOBS {
            return Err(Refusal::generic(format!("there are {MAX_JOBS} jobs already")));
        }
        let job = Arc::new(Job {
            id: id.clone(),
            auto_dismiss: arguments.auto_dismiss,
            fleece,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            state: Mutex::new(JobState { status: "created", cancelled: false, error: None }),
        });
        jobs.insert(id, Arc::clone(&job));
        drop(jobs);
        job.go_to(control, "created");
        Ok(job)
    }

    fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.jobs().get(id).cloned()
    }

    /// Cancels all, and waits until they have ended.
    pub(super) fn end(&self) {
        self.jobs().values().for_each(|job| job.cancel());
        for thread in std::mem::take(&mut *self.threads()) {
            // One that has panicked has ended too.
            let _ended = thread.join();
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads
    }
}

impl Job {
    /// On a thread of its own: the whole life of the job.
    fn run(
        &self,
        control: &Control,
        (node, image): (Arc<Node>, Arc<FileImage>),
        (target, path): (&FileDirectory, &Path),
        mut options: BackupOptions,
    ) {
        self.go_to(control, "running");
        let created = crate::output::time(host().now());
        options.name = free_name(&created, path);
        let mut show = |progress: backup::Progress| {
            self.total.store(progress.total, Ordering::Relaxed);
            self.done.store(progress.done, Ordering::Relaxed);
        };
        let source = (&*image, Arc::clone(&self.fleece));
        let done = block_on(backup::run_live(source, target, &options, &host(), &mut show));
        let id = block_on(image.descriptor()).id;
        let stored = done.map(|report| Stored::new(&report, id, created));
        // Whoever hears that the job has ended may close the node.
        drop((image, node));
        self.end(control, stored.map_err(|error| error.to_string()));
    }

    fn end(&self, control: &Control, stored: Result<Stored, String>) {
        let mut data = self.block_facts();
        match stored {
            Ok(stored) => {
                self.go_to(control, "waiting");
                self.go_to(control, "pending");
                data["x-point"] = json!(stored);
                control.emit("BLOCK_JOB_COMPLETED", &data);
            }
            Err(error) => {
                self.go_to(control, "aborting");
                data["error"] = json!(error);
                let cancelled = {
                    let mut state = self.state();
                    state.error = Some(error);
                    state.cancelled
                };
                let what = if cancelled { "BLOCK_JOB_CANCELLED" } else { "BLOCK_JOB_COMPLETED" };
                if cancelled {
                    data.as_object_mut().map(|data| data.remove("error"));
                } else {
                    let error =
                        json!({ "device": self.id, "operation": "read", "action": "report" });
                    control.emit("BLOCK_JOB_ERROR", &error);
                }
                control.emit(what, &data);
            }
        }
        self.go_to(control, "concluded");
        if self.auto_dismiss {
            self.forget(control);
        }
    }

    fn forget(&self, control: &Control) {
        control.jobs.jobs().remove(&self.id);
        self.go_to(control, "null");
    }

    fn cancel(&self) {
        self.state().cancelled = true;
        // It ends as it does when its fleecing space is full: at its next read.
        self.fleece.fail("it is cancelled");
    }

    fn go_to(&self, control: &Control, status: &'static str) {
        self.state().status = status;
        control.emit("JOB_STATUS_CHANGE", &json!({ "id": self.id, "status": status }));
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// What events and `query-block-jobs` tell of it.
    fn block_facts(&self) -> Value {
        let (done, total) = self.progress();
        json!({ "type": "backup", "device": self.id, "len": total, "offset": done, "speed": 0 })
    }
}

pub(super) fn query(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    let told = |job: &Arc<Job>| {
        let (done, total) = job.progress();
        let state = job.state();
        let mut facts = json!({
            "id": job.id,
            "type": "backup",
            "status": state.status,
            "current-progress": done,
            "total-progress": total,
        });
        if let Some(error) = &state.error {
            facts["error"] = json!(error);
        }
        facts
    };
    Ok(control.jobs.jobs().values().map(told).collect())
}

pub(super) fn query_block_jobs(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    let told = |job: &Arc<Job>| {
        let mut facts = job.block_facts();
        let state = job.state();
        let more = json!({
            "busy": state.status == "running",
            "paused": false,
            "ready": false,
            "io-status": "ok",
            "status": state.status,
            "auto-finalize": true,
            "auto-dismiss": job.auto_dismiss,
        });
        if let (Value::Object(facts), Value::Object(more)) = (&mut facts, more) {
            facts.extend(more);
            facts.extend(state.error.as_ref().map(|error| ("error".to_owned(), json!(error))));
        }
        facts
    };
    Ok(control.jobs.jobs().values().map(told).collect())
}

pub(super) fn cancel(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let JobArguments { id } = call.arguments()?;
    let job = control.jobs.find(&id).ok_or_else(|| Refusal::generic("Job not found"))?;
    cancel_job(&job)
}

pub(super) fn cancel_block_job(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let CancelArguments { device, .. } = call.arguments()?;
    let what = || Refusal::new(Class::DeviceNotActive, format!("Block job '{device}' not found"));
    let job = control.jobs.find(&device).ok_or_else(what)?;
    cancel_job(&job)
}

fn cancel_job(job: &Job) -> Result<Value, Refusal> {
    refuse_unless(job, "cancel", job.state().status != "concluded")?;
    job.cancel();
    Ok(json!({}))
}

pub(super) fn dismiss(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let JobArguments { id } = call.arguments()?;
    let job = control.jobs.find(&id).ok_or_else(|| Refusal::generic("Job not found"))?;
    refuse_unless(&job, "dismiss", job.state().status == "concluded")?;
    job.forget(control);
    Ok(json!({}))
}

fn refuse_unless(job: &Job, verb: &str, may: bool) -> Result<(), Refusal> {
    if may {
        return Ok(());
    }
    let status = job.state().status;
    let what = format!("Job '{}' in state '{status}' cannot accept command verb '{verb}'", job.id);
    Err(Refusal::generic(what))
}
