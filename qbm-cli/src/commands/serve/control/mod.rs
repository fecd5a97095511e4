//! The control of a running server, by QMP: what docs/qmp.md describes.

mod bitmaps;
mod exports;
mod jobs;
mod nodes;
mod points;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qbm_core::image::FrozenPoint;
use qbm_core::{Error, Id};
use qbm_nbd as nbd;
use qbm_qmp::{Call, Commands, Config, Events, Refusal, Server};
use serde::Deserialize;
use serde_json::{Value, json};

use self::exports::ExportEntry;
use self::jobs::Jobs;
use crate::open::{DiskFile, FileImage, GateArgs};

/// What a monitor can do to the image that is served.
struct Control {
    image: Arc<FileImage>,
    /// What else may be opened: the targets of backups.
    gate: GateArgs,
    /// Who serves the image, and points of it.
    server: Arc<nbd::Server>,
    /// Set once the monitors have a server.
    events: OnceLock<Events>,
    state: Mutex<State>,
    jobs: Jobs,
}

/// What monitors have made.
#[derive(Default)]
struct State {
    /// The points that are under way, by id.
    points: BTreeMap<Id, FrozenPoint<DiskFile>>,
    exports: Vec<ExportEntry>,
}

/// How a command is done.
type Run = fn(&Arc<Control>, Call) -> Result<Value, Refusal>;

/// Every command.
const COMMANDS: &[(&str, Run)] = &[
    ("block-dirty-bitmap-add", bitmaps::add),
    ("block-dirty-bitmap-clear", bitmaps::clear),
    ("block-dirty-bitmap-disable", bitmaps::disable),
    ("block-dirty-bitmap-enable", bitmaps::enable),
    ("block-dirty-bitmap-merge", bitmaps::merge),
    ("block-dirty-bitmap-remove", bitmaps::remove),
    ("block-export-add", exports::add),
    ("block-export-del", exports::delete),
    ("block-job-cancel", jobs::cancel_block_job),
    ("block-job-dismiss", jobs::dismiss),
    ("blockdev-backup", jobs::back_up),
    ("job-cancel", jobs::cancel),
    ("job-dismiss", jobs::dismiss),
    ("nbd-server-add", exports::add_nbd),
    ("nbd-server-remove", exports::remove_nbd),
    ("query-block-exports", exports::query),
    ("query-block-jobs", jobs::query_block_jobs),
    ("query-jobs", jobs::query),
    ("query-named-block-nodes", nodes::query),
    ("quit", quit),
    ("transaction", bitmaps::transaction),
    ("x-query-clients", exports::query_clients),
    ("x-point-abort", points::abort),
    ("x-point-begin", points::begin),
    ("x-point-commit", points::commit),
];

/// [`Control`] as the protocol wants it.
struct Monitored {
    control: Arc<Control>,
    names: Vec<&'static str>,
    /// Is given a line for each command that changes something.
    report: Box<dyn Fn(&str) + Send + Sync>,
}

/// A control that monitors have, until it is ended.
pub(super) struct Controlled {
    control: Arc<Control>,
    monitors: Arc<Server>,
    thread: JoinHandle<()>,
}

impl Controlled {
    /// Lets those who come to `listener` control `image` and who serves it; what changes something
    /// is told to `report`.
    pub(super) fn start(
        (image, server): (Arc<FileImage>, Arc<nbd::Server>),
        gate: GateArgs,
        listener: UnixListener,
        report: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> Self {
        let (events, state, jobs) = (OnceLock::new(), Mutex::default(), Jobs::default());
        let control = Arc::new(Control { image, gate, server, events, state, jobs });
        let package = format!("qbm {}", env!("CARGO_PKG_VERSION"));
        let config = Config { report: Box::new(report.clone()), ..Config::for_us(&package) };
        let commands = Monitored {
            control: Arc::clone(&control),
            names: COMMANDS.iter().map(|(name, _)| *name).collect(),
            report: Box::new(report),
        };
        let monitors = Arc::new(Server::new(listener, config, Arc::new(commands)));
        control.events.set(monitors.events()).expect("it is set here alone");
        let serving = Arc::clone(&monitors);
        let thread = std::thread::spawn(move || serving.serve());
        Self { control, monitors, thread }
    }

    /// Hangs up on all monitors, and ends what they have begun.
    pub(super) fn end(self) {
        self.monitors.stop();
        // One that has panicked has ended too.
        let _ended = self.thread.join();
        self.control.jobs.end();
        // The image gives up what is not settled.
        self.control.state().points.clear();
    }
}

impl Commands for Monitored {
    fn names(&self) -> &[&'static str] {
        &self.names
    }

    fn execute(&self, call: Call) -> Result<Value, Refusal> {
        let found = COMMANDS.iter().find(|(name, _)| *name == call.command);
        let (name, run) = found.ok_or_else(|| call.not_found())?;
        let asks = name.starts_with("query-") || name.starts_with("x-query-");
        let asked = (!asks).then(|| format!("{}: {name} {}", call.peer, json!(call.arguments)));
        let done = run(&self.control, call);
        if let (Some(asked), Ok(_)) = (asked, &done) {
            // Who has made history unusable can be found out.
            (self.report)(&asked);
        }
        done
    }
}

impl Control {
    /// The one node: the image, by its descriptor's name.
    fn node_name(&self) -> &str {
        self.image.name()
    }

    /// That `name` is the image's node.
    fn check_node(&self, name: &str) -> Result<(), Refusal> {
        if name == self.node_name() {
            return Ok(());
        }
        Err(Refusal::generic(format!("Cannot find device='{name}' nor node-name='{name}'")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, event: &str, data: &Value) {
        if let Some(events) = self.events.get() {
            events.emit(event, data);
        }
    }
}

/// `error` as a monitor is told.
fn refused(error: &Error) -> Refusal {
    Refusal::generic(error.to_string())
}

fn quit(_: &Arc<Control>, call: Call) -> Result<Value, Refusal> {
    call.nothing()?;
    // As the operator does it.
    let told = kill(Pid::this(), Signal::SIGTERM);
    told.map(|()| json!({})).map_err(|error| Refusal::generic(error.to_string()))
}

/// Arguments that name a bitmap.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BitmapArguments {
    node: String,
    name: String,
}

/// An id as it is written.
fn parse_id(text: &str) -> Result<Id, Refusal> {
    let what = || Refusal::generic(format!("'{text}' is not the id of a point"));
    text.parse().map_err(|()| what())
}
