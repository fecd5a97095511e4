//! Jobs: what is under way in the background, and what has ended and was not dismissed.

mod backup;
mod commit;
mod drive;
mod events;
mod mirror;
mod options;
mod query;
mod stream;
mod verbs;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use qbm_core::job::{Group, JobControl, JobOptions, Status};
use qbm_core::{Error, Result};
use qbm_qmp::Refusal;
use serde_json::Value;

pub(super) use self::backup::{BackUp, PlannedBackup, back_up};
pub(super) use self::commit::commit;
pub(super) use self::mirror::mirror;
pub(super) use self::query::{query, query_block_jobs};
pub(super) use self::stream::stream;
pub(super) use self::verbs::{
    cancel, cancel_block_job, complete, complete_block_job, dismiss, finalize, pause,
    pause_block_job, resume, resume_block_job, set_speed,
};
use super::{Control, Node, is_well_formed};

/// The most jobs at a time, those that wait to be dismissed included.
const MAX_JOBS: usize = 16;

/// The jobs by their ids.
#[derive(Default)]
pub(super) struct Jobs {
    jobs: Mutex<BTreeMap<String, Arc<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a job does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Backup,
    Commit,
    /// Whether writes may not get ahead of it.
    Mirror {
        blocking: bool,
    },
    Stream,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Commit => "commit",
            Self::Mirror { .. } => "mirror",
            Self::Stream => "stream",
        }
    }
}

/// A job, and what it is about.
pub(super) struct Job {
    kind: Kind,
    /// The names of the nodes that it uses.
    nodes: Vec<String>,
    control: JobControl,
    /// What is told of it besides, when it has ended well.
    outcome: Arc<Mutex<Option<(&'static str, Value)>>>,
}

/// What a job is to be.
pub(super) struct New<'a> {
    id: Option<String>,
    kind: Kind,
    options: JobOptions,
    /// The nodes that it uses; the first is what it is a job of.
    nodes: Vec<&'a Arc<Node>>,
}

impl Jobs {
    /// Begins a job, which does `work` on a thread of its own.
    fn start(
        &self,
        control: &Arc<Control>,
        new: New<'_>,
        work: impl FnOnce(&Job) -> Result<()> + Send + 'static,
    ) -> Result<(), Refusal> {
        let mut added = self.add_all(control, vec![(new, Arc::default())])?;
        self.spawn(control, added.pop().expect("it was added"), work);
        Ok(())
    }

    /// Lets `job`, which is there, do `work` on a thread of its own.
    pub(super) fn spawn(
        &self,
        control: &Arc<Control>,
        job: Arc<Job>,
        work: impl FnOnce(&Job) -> Result<()> + Send + 'static,
    ) {
        // Here, so that it is running when the command that started it is answered.
        job.control.begin();
        let ours = Arc::clone(control);
        let live = move || {
            // Whoever hears that it has ended may close the nodes, which `work` has held.
            let result = work(&job);
            job.control.conclude(&result);
            ours.jobs.forget_gone();
        };
        self.threads().push(std::thread::spawn(live));
    }

    /// Makes jobs that are all about to begin, each in its group; or none, if one is refused.
    pub(super) fn add_all(
        &self,
        control: &Arc<Control>,
        new: Vec<(New<'_>, Arc<Group>)>,
    ) -> Result<Vec<Arc<Job>>, Refusal> {
        for node in new.iter().flat_map(|(new, _)| &new.nodes) {
            self.refuse_used(&node.name)?;
        }
        let mut jobs = self.jobs();
        jobs.retain(|_, job| !job.is_gone());
        let mut ids = Vec::new();
        for (new, _) in &new {
            let id = new.id.clone().unwrap_or_else(|| new.nodes[0].name.clone());
            if new.id.is_some() && !is_well_formed(&id) {
                return Err(Refusal::generic(format!("Invalid job ID '{id}'")));
            }
            if jobs.contains_key(&id) || ids.contains(&id) {
                return Err(Refusal::generic(format!("Job ID '{id}' already in use")));
            }
            ids.push(id);
        }
        if jobs.len() + ids.len() > MAX_JOBS {
            return Err(Refusal::generic(format!("there are {MAX_JOBS} jobs already")));
        }
        let add = |(id, (new, group)): (String, (New<'_>, Arc<Group>))| {
            let New { kind, options, nodes, .. } = new;
            let outcome = Arc::default();
            let observer = events::observer(control, &id, (kind, &options), Arc::clone(&outcome));
            let job = Arc::new(Job {
                kind,
                nodes: nodes.iter().map(|node| node.name.clone()).collect(),
                control: JobControl::new(&id, options, group, observer),
                outcome,
            });
            jobs.insert(id, Arc::clone(&job));
            job
        };
        Ok(ids.into_iter().zip(new).map(add).collect())
    }

    /// Refuses to do anything to the node `name` that a job which is under way forbids.
    pub(super) fn refuse_used(&self, name: &str) -> Result<(), Refusal> {
        let uses = |job: &&Arc<Job>| !job.is_over() && job.nodes.iter().any(|node| node == name);
        let Some(job) = self.jobs().values().find(uses).cloned() else { return Ok(()) };
        let kind = job.kind.name();
        let what = format!("Node '{name}' is busy: block device is in use by block job: {kind}");
        Err(Refusal::generic(what))
    }

    fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.jobs().get(id).filter(|job| !job.is_gone()).cloned()
    }

    fn all(&self) -> Vec<Arc<Job>> {
        self.jobs().values().filter(|job| !job.is_gone()).cloned().collect()
    }

    /// Forgets those that were dismissed.
    pub(super) fn forget_gone(&self) {
        self.jobs().retain(|_, job| !job.is_gone());
    }

    /// Cancels all, and waits until they have ended.
    pub(super) fn end(&self) {
        for job in self.all() {
            // One that has ended cannot be cancelled.
            let _cancelled = job.control.cancel();
        }
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
    /// Whether it has ended, and uses nothing any more.
    fn is_over(&self) -> bool {
        matches!(self.control.info().status, Status::Concluded | Status::Null)
    }

    fn is_gone(&self) -> bool {
        self.control.info().status == Status::Null
    }

    /// It ends before it has begun.
    pub(super) fn give_up(&self) {
        self.control.conclude(&Err(Error::Cancelled));
    }

    /// What is told at its end, besides what is told of every job.
    fn set_outcome(&self, name: &'static str, value: Value) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, value));
    }
}
