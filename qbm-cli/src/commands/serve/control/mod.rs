//! The control of a running server, by QMP: what docs/qmp.md describes.

mod bitmaps;
mod exports;
mod graph;
mod jobs;
mod nbd;
mod nodes;
mod opening;
mod points;
mod policy;
mod schema;
mod transaction;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qbm_core::image::FrozenPoint;
use qbm_core::{Error, Id};
use qbm_qmp::{Call, Commands, Config, Events, Options, Refusal, Server};
use serde::Deserialize;
use serde_json::{Value, json};

use self::exports::ExportEntry;
pub(in crate::commands) use self::graph::{ExportedDisk, Graph, Node};
use self::jobs::Jobs;
pub(in crate::commands) use self::nbd::NbdServer;
use self::opening::Opener;
pub(in crate::commands) use self::policy::Policy;
use super::places::SocketFile;
use crate::open::{DiskFile, GateArgs};

/// What a monitor can do.
pub(in crate::commands) struct Control {
    graph: Arc<Graph>,
    /// What else may be opened: the targets of backups, and what descriptors name.
    gate: GateArgs,
    /// Who serves the nodes, and points of them; `None` while nobody does.
    nbd: Mutex<Option<NbdServer>>,
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
    ("block-commit", jobs::commit),
    ("block-dirty-bitmap-add", bitmaps::add),
    ("block-dirty-bitmap-clear", bitmaps::clear),
    ("block-dirty-bitmap-disable", bitmaps::disable),
    ("block-dirty-bitmap-enable", bitmaps::enable),
    ("block-dirty-bitmap-merge", bitmaps::merge),
    ("block-dirty-bitmap-remove", bitmaps::remove),
    ("block-dirty-bitmap-set-persistent", bitmaps::set_persistent),
    ("block-export-add", exports::add),
    ("block-export-del", exports::delete),
    ("block-job-cancel", jobs::cancel_block_job),
    ("block-job-complete", jobs::complete_block_job),
    ("block-job-dismiss", jobs::dismiss),
    ("block-job-finalize", jobs::finalize),
    ("block-job-pause", jobs::pause_block_job),
    ("block-job-resume", jobs::resume_block_job),
    ("block-job-set-speed", jobs::set_speed),
    ("block-stream", jobs::stream),
    ("block_resize", nodes::resize),
    ("blockdev-add", nodes::add),
    ("blockdev-backup", jobs::back_up),
    ("blockdev-del", nodes::delete),
    ("blockdev-mirror", jobs::mirror),
    ("job-cancel", jobs::cancel),
    ("job-complete", jobs::complete),
    ("job-dismiss", jobs::dismiss),
    ("job-finalize", jobs::finalize),
    ("job-pause", jobs::pause),
    ("job-resume", jobs::resume),
    ("nbd-server-add", exports::add_nbd),
    ("nbd-server-remove", exports::remove_nbd),
    ("nbd-server-start", nbd::start),
    ("nbd-server-stop", nbd::stop),
    ("query-block", nodes::query_devices),
    ("query-block-exports", exports::query),
    ("query-block-jobs", jobs::query_block_jobs),
    ("query-jobs", jobs::query),
    ("query-named-block-nodes", nodes::query),
    ("query-qmp-schema", schema::query),
    ("quit", quit),
    ("transaction", transaction::transaction),
    ("x-debug-block-dirty-bitmap-sha256", bitmaps::digest),
    ("x-query-clients", exports::query_clients),
    ("x-point-abort", points::abort),
    ("x-point-begin", points::begin),
    ("x-point-commit", points::commit),
];

/// [`Control`] as the protocol wants it.
struct Monitored {
    control: Arc<Control>,
    names: Vec<&'static str>,
    policy: Policy,
    /// Is given a line for each command that changes something.
    report: Box<dyn Fn(&str) + Send + Sync>,
}

/// Where monitors connect.
pub(in crate::commands) struct Entrance {
    pub(in crate::commands) listener: UnixListener,
    /// Removed when they cannot connect any more.
    pub(in crate::commands) file: SocketFile,
    pub(in crate::commands) policy: Policy,
}

/// A control that monitors have, until it is ended.
pub(in crate::commands) struct Controlled {
    control: Arc<Control>,
    monitors: Vec<(Arc<Server>, JoinHandle<()>, SocketFile)>,
}

impl Controlled {
    /// Lets those who come to `entrances` have `control`; what changes something is told to `report`.
    pub(in crate::commands) fn start(
        control: Control,
        entrances: Vec<Entrance>,
        report: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> Self {
        let control = Arc::new(control);
        let package = format!("qbm {}", env!("CARGO_PKG_VERSION"));
        let monitor = |Entrance { listener, file, policy }| {
            let mut config =
                Config { report: Box::new(report.clone()), ..Config::for_us(&package) };
            config.allowed = policy.users.clone().unwrap_or(config.allowed);
            let commands = Monitored {
                control: Arc::clone(&control),
                names: COMMANDS.iter().map(|(name, _)| *name).collect(),
                policy,
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

    /// Tells the operator what clients of the NBD server have asked for.
    pub(in crate::commands) fn tell_statistics(&self) {
        if let Some(nbd) = &*self.control.nbd() {
            eprintln!("{}", nbd.server.statistics());
        }
    }

    /// Ends the NBD server, hangs up on all monitors, and ends what they have begun.
    ///
    /// # Errors
    ///
    /// If the NBD server could not wait for clients.
    pub(in crate::commands) fn end(self) -> anyhow::Result<()> {
        let nbd = self.control.nbd().take();
        let served = nbd.map_or(Ok(()), NbdServer::end);
        self.monitors.iter().for_each(|(server, ..)| server.stop());
        for (_, thread, _file) in self.monitors {
            // One that has panicked has ended too.
            let _ended = thread.join();
        }
        self.control.jobs.end();
        // The images give up what is not settled.
        *self.control.state() = State::default();
        served
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
        if let Err(denied) = self.policy.check(&call) {
            (self.report)(&format!("denied: {}", asked.unwrap_or_default()));
            return Err(denied);
        }
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
    /// A control of `graph`, without an NBD server.
    pub(in crate::commands) fn new(graph: Arc<Graph>, gate: GateArgs) -> Self {
        Self {
            graph,
            gate,
            nbd: Mutex::default(),
            events: OnceLock::new(),
            turn: Mutex::default(),
            state: Mutex::default(),
            jobs: Jobs::default(),
        }
    }

    /// Has the NBD server `nbd` from the beginning, with `exports`: the name of each, and its disk.
    pub(in crate::commands) fn serve_first(
        &self,
        nbd: NbdServer,
        exports: Vec<(String, Arc<ExportedDisk>)>,
    ) {
        *self.nbd() = Some(nbd);
        self.state().exports = exports::first(exports);
    }

    /// Opens what an option of the command line describes.
    ///
    /// # Errors
    ///
    /// As for [`Opener::open`].
    pub(in crate::commands) fn open(&self, options: Options) -> Result<(), Refusal> {
        Opener { graph: &self.graph, gate: &self.gate }.open(options)
    }

    /// Starts the NBD server that an option of the command line describes.
    ///
    /// # Errors
    ///
    /// If there is one, or it cannot listen there.
    pub(in crate::commands) fn start_nbd(&self, options: Options) -> Result<(), Refusal> {
        nbd::start_by_options(self, options)
    }

    /// Exports what an option of the command line describes.
    ///
    /// # Errors
    ///
    /// As for `block-export-add`.
    pub(in crate::commands) fn export(&self, options: Options) -> Result<(), Refusal> {
        exports::add_by_options(self, options)
    }

    fn nbd(&self) -> MutexGuard<'_, Option<NbdServer>> {
        self.nbd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The NBD server.
    fn server(&self) -> Result<Arc<qbm_nbd::Server>, Refusal> {
        let nbd = self.nbd();
        nbd.as_ref().map(|nbd| Arc::clone(&nbd.server)).ok_or_else(nbd::not_running)
    }

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

/// Whether `name` can be that of a node, an export or a job: a letter, and then letters, digits, `-`, `.` and `_`.
fn is_well_formed(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
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
