//! Transactions: actions on the bitmaps and points of several nodes, of which all are done or none.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::backup;
use qbm_core::image::{BitmapAction, PreparedTransaction, commit_together};
use qbm_core::job::Group;
use qbm_qmp::{Call, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::jobs::{BackUp, PlannedBackup};
use super::{BitmapArguments, Control, Node, bitmaps, refused};
use crate::open::{FileDirectory, FileImage, host};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transaction {
    actions: Vec<Action>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub(super) enum Action {
    BlockDirtyBitmapAdd(bitmaps::Add),
    BlockDirtyBitmapClear(BitmapArguments),
    BlockDirtyBitmapDisable(BitmapArguments),
    BlockDirtyBitmapEnable(BitmapArguments),
    BlockDirtyBitmapMerge(bitmaps::Merge),
    BlockDirtyBitmapRemove(BitmapArguments),
    BlockDirtyBitmapSetPersistent(bitmaps::SetPersistent),
    BlockdevBackup(BackUp),
    Abort(Nothing),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Properties {
    #[serde(default, rename = "completion-mode")]
    completion: Completion,
}

/// Whether the jobs of a transaction succeed together.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Completion {
    #[default]
    Individual,
    Grouped,
}

/// A node, and what is done to its bitmaps.
pub(super) type Planned = (Arc<Node>, Vec<BitmapAction>);

pub(super) fn transaction(control: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    let Transaction { actions, properties } = call.arguments()?;
    let grouped = properties.completion == Completion::Grouped;
    if let (true, Some(name)) = (grouped, actions.iter().find_map(Action::without_job)) {
        let what = "does not support transaction property completion-mode = grouped";
        return Err(Refusal::generic(format!("Action '{name}' {what}")));
    }
    run(control, actions, properties.completion)
}

/// Does `action` on its own.
pub(super) fn run_one(control: &Arc<Control>, action: Action) -> Result<Value, Refusal> {
    run(control, vec![action], Completion::Individual)
}

impl Action {
    /// What its `type` is, if it begins no job.
    fn without_job(&self) -> Option<&'static str> {
        match self {
            Self::BlockDirtyBitmapAdd(_) => Some("block-dirty-bitmap-add"),
            Self::BlockDirtyBitmapClear(_) => Some("block-dirty-bitmap-clear"),
            Self::BlockDirtyBitmapDisable(_) => Some("block-dirty-bitmap-disable"),
            Self::BlockDirtyBitmapEnable(_) => Some("block-dirty-bitmap-enable"),
            Self::BlockDirtyBitmapMerge(_) => Some("block-dirty-bitmap-merge"),
            Self::BlockDirtyBitmapRemove(_) => Some("block-dirty-bitmap-remove"),
            Self::BlockDirtyBitmapSetPersistent(_) => Some("block-dirty-bitmap-set-persistent"),
            Self::BlockdevBackup(_) => None,
            Self::Abort(_) => Some("abort"),
        }
    }
}

/// What is to be done to one node.
struct Part {
    node: Arc<Node>,
    image: Arc<FileImage>,
    actions: Vec<BitmapAction>,
    backup: Option<PlannedBackup>,
}

/// The parts in the order in which their nodes were first named.
#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    /// The part of `node`.
    fn of(&mut self, node: Arc<Node>) -> Result<&mut Part, Refusal> {
        let index = match self.0.iter().position(|part| Arc::ptr_eq(&part.node, &node)) {
            Some(index) => index,
            None => {
                let image = Arc::clone(node.image()?);
                self.0.push(Part { node, image, actions: Vec::new(), backup: None });
                self.0.len() - 1
            }
        };
        Ok(&mut self.0[index])
    }

    fn plan(&mut self, control: &Arc<Control>, action: Action) -> Result<(), Refusal> {
        let named = |arguments, action| bitmaps::plan_named(control, arguments, action);
        let (node, actions) = match action {
            Action::BlockDirtyBitmapAdd(add) => bitmaps::plan_add(control, add),
            Action::BlockDirtyBitmapClear(arguments) => named(arguments, BitmapAction::Clear),
            Action::BlockDirtyBitmapDisable(arguments) => named(arguments, BitmapAction::Disable),
            Action::BlockDirtyBitmapEnable(arguments) => named(arguments, BitmapAction::Enable),
            Action::BlockDirtyBitmapMerge(merge) => bitmaps::plan_merge(control, merge),
            Action::BlockDirtyBitmapRemove(arguments) => named(arguments, BitmapAction::Remove),
            Action::BlockDirtyBitmapSetPersistent(set) => bitmaps::plan_persistence(control, set),
            Action::BlockdevBackup(backup) => return self.plan_backup(control, backup),
            Action::Abort(Nothing {}) => {
                Err(Refusal::generic("Transaction aborted using Abort action"))
            }
        }?;
        self.of(node)?.actions.extend(actions);
        Ok(())
    }

    fn plan_backup(&mut self, control: &Arc<Control>, backup: BackUp) -> Result<(), Refusal> {
        let backup = PlannedBackup::new(control, backup)?;
        if self.backups().any(|other| other.path == backup.path) {
            let path = backup.path.display();
            let what = format!("{path}: each backup of a transaction needs a target of its own");
            return Err(Refusal::generic(what));
        }
        let part = self.of(Arc::clone(&backup.node))?;
        if part.backup.is_some() {
            let name = &part.node.name;
            let what = format!("Node '{name}' cannot have two backups in a transaction");
            return Err(Refusal::generic(what));
        }
        part.backup = Some(backup);
        Ok(())
    }

    fn backups(&self) -> impl Iterator<Item = &PlannedBackup> {
        self.0.iter().filter_map(|part| part.backup.as_ref())
    }
}

/// Does all of `actions`, or none of them. All that can be refused is found first, and whatever takes time is
/// done; then one replace of a descriptor after the other decides.
fn run(
    control: &Arc<Control>,
    actions: Vec<Action>,
    completion: Completion,
) -> Result<Value, Refusal> {
    let mut parts = Parts::default();
    for action in actions {
        parts.plan(control, action)?;
    }
    let prepared = block_on(prepare(&parts.0))?;
    let together = Arc::<Group>::default();
    let group = || match completion {
        Completion::Individual => Arc::default(),
        Completion::Grouped => Arc::clone(&together),
    };
    let news = parts.backups().map(|backup| (backup.job(), group())).collect();
    let jobs = match control.jobs.add_all(control, news) {
        Ok(jobs) => jobs,
        Err(refused) => {
            block_on(give_up(prepared));
            return Err(refused);
        }
    };
    let points = match block_on(commit_together(prepared)) {
        Ok(points) => points,
        Err(failed) => {
            jobs.iter().for_each(|job| job.give_up());
            control.jobs.forget_gone();
            let done: Vec<_> = parts.0[..failed.done].iter().map(|part| &*part.node.name).collect();
            // A medium has failed between two steps: nothing can be taken back by now.
            return Err(match done.as_slice() {
                [] => refused(&failed.error),
                done => Refusal::generic(format!(
                    "{}; done is what is of: {}",
                    failed.error,
                    done.join(", ")
                )),
            });
        }
    };
    let backups = parts.0.into_iter().filter_map(|part| part.backup);
    for ((backup, point), job) in backups.zip(points.into_iter().flatten()).zip(jobs) {
        control.jobs.spawn(control, job, backup.work(point));
    }
    Ok(json!({}))
}

type Prepared<'a> = PreparedTransaction<'a, FileDirectory>;

async fn prepare(parts: &[Part]) -> Result<Vec<Prepared<'_>>, Refusal> {
    let mut prepared = Vec::new();
    for part in parts {
        match prepare_one(part).await {
            Ok(part) => prepared.push(part),
            Err(error) => {
                give_up(prepared).await;
                return Err(refused(&error));
            }
        }
    }
    Ok(prepared)
}

async fn prepare_one(part: &Part) -> qbm_core::Result<Prepared<'_>> {
    let Part { image, actions, backup, .. } = part;
    let Some(backup) = backup else { return image.prepare_transaction(actions).await };
    backup::make_ready(image, &backup.target, &backup.options).await?;
    let fleece = Some(Arc::clone(&backup.fleece));
    let point = backup::new_point(&backup.options, fleece, &host());
    image.prepare_with_point(actions, point).await
}

async fn give_up(parts: Vec<Prepared<'_>>) {
    for part in parts {
        part.give_up().await;
    }
}
