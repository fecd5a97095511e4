//! `qbm daemon`: disks that are opened, exported and controlled as `qemu-storage-daemon` does it.

mod keyval;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{ArgAction, Args};
use qbm_qmp::{Options, Refusal};
use serde::Deserialize;
use tracing::info;

use super::serve::control::{Control, Controlled, Entrance, Graph, Policy};
use super::serve::places::{PidFile, SocketFile, bind_private};
use super::serve::{fork, signals};
use crate::logging;
use crate::open::GateArgs;

/// Open, export and control disks by the words of qemu-storage-daemon, and by QMP
///
/// Serves until SIGTERM, SIGINT or the command `quit`, and then closes the disks cleanly; whatever ends it
/// otherwise, no mark is lost. SIGUSR1 prints what the NBD server has done so far. Says `ready` once
/// everything is there. OPTIONS are key=value,..., or a JSON object; they are those of QEMU as far as
/// docs/qmp.md says nothing else. First all --chardev are done, then --blockdev, --nbd-server, --export and
/// --monitor, each kind in its order.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub struct DaemonArgs {
    /// Open a node: [driver=]qbm|raw|file|host_device|nbd,node-name=NAME,...
    #[arg(long, value_name = "OPTIONS")]
    blockdev: Vec<String>,
    /// Export a node: [type=]nbd,id=ID,node-name=NODE[,name=NAME][,writable=on][,bitmaps.0=BITMAP]
    #[arg(long, value_name = "OPTIONS")]
    export: Vec<String>,
    /// Start the NBD server: addr.type=unix,addr.path=PATH or addr.type=inet,addr.host=HOST,addr.port=PORT;
    /// with x-tls-certificates=DIR for those who speak TLS and have a certificate
    #[arg(long, value_name = "OPTIONS")]
    nbd_server: Option<String>,
    /// A socket for a monitor: [backend=]socket,id=ID,path=PATH,server=on,wait=off
    #[arg(long, value_name = "OPTIONS")]
    chardev: Vec<String>,
    /// Let QMP be spoken there: [chardev=]ID[,x-policy=FILE]; the file says what is denied, as that of
    /// qbm serve --qmp-policy
    #[arg(long, value_name = "OPTIONS")]
    monitor: Vec<String>,
    /// Which other files may be opened.
    #[command(flatten)]
    gate: GateArgs,
    /// Write the process id to FILE once all is there; it is removed when all disks are closed
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Return once all is there, and go on in the background; what would be told on standard error is then
    /// lost
    #[arg(long)]
    daemonize: bool,
    /// Tell more; twice, all that can be told
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// This is the process in the background
    #[arg(long, hide = true)]
    forked: bool,
}

const EXAMPLE: &str = "\
Example, of a disk that is exported and controlled:
  qbm daemon --blockdev qbm,node-name=vm,file.driver=file,file.filename=vm.qbm \\
    --nbd-server addr.type=unix,addr.path=nbd.sock --export nbd,id=vm,node-name=vm,writable=on \\
    --chardev socket,id=qmp,path=qmp.sock,server=on,wait=off --monitor qmp";

/// A socket for a monitor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chardev {
    #[serde(rename = "backend")]
    _backend: Backend,
    id: String,
    path: PathBuf,
    #[serde(default = "on")]
    server: bool,
    #[serde(default = "on")]
    wait: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Backend {
    Socket,
}

fn on() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Monitor {
    chardev: String,
    #[serde(default, rename = "mode")]
    _mode: Mode,
    #[serde(default, rename = "x-policy")]
    policy: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// QMP.
    #[default]
    Control,
}

/// Runs the command.
///
/// # Errors
///
/// If something cannot be opened, or closed cleanly.
pub fn run(args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    if args.forked {
        fork::leave_terminal().context("--daemonize")?;
    } else if args.daemonize {
        return fork::start();
    }
    logging::start(args.verbose)?;
    // Before all else, so that every thread leaves them to the one that waits for them.
    signals::block()?;
    let graph = Arc::new(Graph::default());
    let mut pid_file = None;
    let served = serve(args, &graph, &mut pid_file);
    // Closed either way.
    let closed = graph.close();
    // Others can wait for that.
    drop(pid_file);
    served.and(closed)?;
    Ok(ExitCode::SUCCESS)
}

fn serve(
    args: &DaemonArgs,
    graph: &Arc<Graph>,
    pid_file: &mut Option<PidFile>,
) -> anyhow::Result<()> {
    let entrances = entrances(args)?;
    let control = Control::new(Arc::clone(graph), args.gate.clone());
    // Ended whatever has become of the rest: it holds what is open.
    let prepared = prepare(args, &control);
    let report = |line: &str| info!("{line}");
    let controlled = match &prepared {
        Ok(()) => Controlled::start(control, entrances, report),
        Err(_) => Controlled::start(control, Vec::new(), report),
    };
    let ready = prepared.and_then(|()| {
        *pid_file = args.pidfile.as_deref().map(PidFile::write).transpose()?;
        println!("ready");
        if args.forked { fork::detach().context("--daemonize") } else { Ok(()) }
    });
    if ready.is_ok() {
        signals::wait(|| controlled.tell_statistics());
    }
    let ended = controlled.end();
    ready.and(ended)
}

/// Does what the options say that come before the monitors.
fn prepare(args: &DaemonArgs, control: &Control) -> anyhow::Result<()> {
    for text in &args.blockdev {
        each("--blockdev", text, "driver", |options| control.open(options))?;
    }
    if let Some(text) = &args.nbd_server {
        each("--nbd-server", text, "addr", |options| control.start_nbd(options))?;
    }
    for text in &args.export {
        each("--export", text, "type", |options| control.export(options))?;
    }
    Ok(())
}

/// Does `what` with the options in `text`.
fn each<T>(
    option: &str,
    text: &str,
    implied: &str,
    what: impl FnOnce(Options) -> Result<T, Refusal>,
) -> anyhow::Result<T> {
    let options =
        keyval::parse(text, implied).map_err(|error| anyhow!("{option} {text}: {error}"))?;
    what(options).map_err(|refusal| anyhow!("{option} {text}: {refusal}"))
}

/// The sockets of the monitors.
fn entrances(args: &DaemonArgs) -> anyhow::Result<Vec<Entrance>> {
    let mut sockets: Vec<Chardev> = Vec::new();
    for text in &args.chardev {
        let socket: Chardev = each("--chardev", text, "backend", Options::parse)?;
        if !socket.server || socket.wait {
            bail!("--chardev {text}: only server=on with wait=off is possible");
        }
        if sockets.iter().any(|other| other.id == socket.id) {
            bail!("--chardev {text}: Duplicate ID '{}' for chardev", socket.id);
        }
        sockets.push(socket);
    }
    let entrance = |text: &String| {
        let monitor: Monitor = each("--monitor", text, "chardev", Options::parse)?;
        let index = sockets.iter().position(|socket| socket.id == monitor.chardev);
        let index = index.with_context(|| {
            format!("--monitor {text}: chardev \"{}\" not found", monitor.chardev)
        })?;
        let path = sockets.swap_remove(index).path;
        let listener = bind_private(&path).with_context(|| path.display().to_string())?;
        let policy = monitor.policy.as_deref().map(Policy::read).transpose()?.unwrap_or_default();
        Ok(Entrance { listener, file: SocketFile::new(path), policy })
    };
    args.monitor.iter().map(entrance).collect()
}
