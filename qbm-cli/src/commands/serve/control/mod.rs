//! The control of a running server, by QMP: what docs/qmp.md describes.

mod bitmaps;
mod exports;
mod graph;
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
pub(in crate::commands) use self::graph::{Graph, Node};
use self::jobs::Jobs;
use super::places::SocketFile;
use crate::open::{DiskFile, GateArgs};

/// What a monitor can do.
struct Control {
    graph: Arc<Graph>,
    /// What else may be opened: the targets of backups.
    gate: GateArgs,
    /// Who serves the nodes, and points of them.
    server: Arc<nbd::Server>,
    /// Where the monitors are told something; set once they have servers.
    events: OnceLock<Vec<Events>>,
    /// Held while a command is done: they take turns, whichever monitor they come from, as in QEMU.
    turn: Mutex<()>,
    state: Mutex<State>,
    jobs: Jobs,
}

/// What monitors have made.
#[derive(Default)]
struct State {
    /// The points that are under way, by id, each with its node.
    points: BTreeMap<Id, (Arc<Node>, FrozenPoint<DiskFile>)>,
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

/// Where monitors connect.
pub(super) struct Entrance {
    pub(super) listener: UnixListener,
    /// Removed when they cannot connect any more.
    pub(super) file: SocketFile,
}

/// A control that monitors have, until it is ended.
pub(super) struct Controlled {
    control: Arc<Control>,
    monitors: Vec<(Arc<Server>, JoinHandle<()>, SocketFile)>,
}

impl Controlled {
    /// Lets those who come to `entrances` control the nodes of `graph` and who serves them, so far
    /// `exports`: the name of each, and its node. What changes something is told to `report`.
    pub(super) fn start(
        (graph, server): (Arc<Graph>, Arc<nbd::Server>),
        exports: Vec<(String, Arc<Node>)>,
        gate: &GateArgs,
        (entrances, report): (Vec<Entrance>, impl Fn(&str) + Clone + Send + Sync + 'static),
    ) -> Self {
        let state = State { exports: exports::first(exports), ..State::default() };
        let control = Arc::new(Control {
            graph,
            gate: gate.clone(),
            server,
            events: OnceLock::new(),
            turn: Mutex::default(),
            state: Mutex::new(state),
            jobs: Jobs::default(),
        });
        let package = format!("qbm {}", env!("CARGO_PKG_VERSION"));
        let monitor = |Entrance { listener, file }| {
            let config = Config { report: Box::new(report.clone()), ..Config::for_us(&package) };
            let commands = Monitored {
                control: Arc::clone(&control),
                names: COMMANDS.iter().map(|(name, _)| *name).collect(),
                report: Box::new(report.clone()),
            };
            (Arc::new(Server::new(listener, config, Arc::new(commands))), file)
        };
        let monitors: Vec<_> = entrances.into_iter().map(monitor).collect();
        let events = monitors.iter().map(|(server, _)| server.events()).collect();
        control.events.set(events).expect("it is set here alone");
        let serve = |(server, file): (Arc<Server>, SocketFile)| {
            let serving = Arc::clone(&server);
            (server, std::thread::spawn(move || serving.serve()), file)
        };
        Self { control, monitors: monitors.into_iter().map(serve).collect() }
    }

    /// Hangs up on all monitors, and ends what they have begun.
    pub(super) fn end(self) {
        self.monitors.iter().for_each(|(server, ..)| server.stop());
        for (_, thread, _file) in self.monitors {
            // One that has panicked has ended too.
            let _ended = thread.join();
        }
        self.control.jobs.end();
        // The images give up what is not settled.
        *self.control.state() = State::default();
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
        let turn = self.control.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let done = run(&self.control, call);
        drop(turn);
        if let (Some(asked), Ok(_)) = (asked, &done) {
            // Who has made history unusable can be found out.
            (self.report)(&asked);
        }
        done
    }
}

impl Control {
    /// The node `name`.
    fn node(&self, name: &str) -> Result<Arc<Node>, Refusal> {
        self.graph.find(name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, event: &str, data: &Value) {
        self.events.get().into_iter().flatten().for_each(|events| events.emit(event, data));
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
