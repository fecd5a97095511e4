//! `qbm serve`: lets virtual machines and backup programs attach to images, by NBD.

mod chosen;
pub(in crate::commands) mod control;
pub(in crate::commands) mod fork;
pub(in crate::commands) mod places;
mod secrecy;
pub(in crate::commands) mod signals;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args};
use qbm_nbd::limits::MAX_NAME;
use qbm_nbd::{Limits, Server, Tls};
use tracing::{error, info};

use self::chosen::{Chosen, Opened};
use self::control::{Control, Controlled, Entrance, Graph, NbdServer, Policy};
use self::places::{PidFile, Place, SocketFile};
use self::secrecy::Secrecy;
use crate::aio::Aio;
use crate::open::GateArgs;
use crate::{logging, remote};

/// Let virtual machines and backup programs attach to images, by NBD
///
/// Serves until SIGTERM or SIGINT, and then closes the images cleanly; whatever ends it otherwise, no
/// mark is lost. SIGUSR1 prints what it has done so far, on standard error. Sockets that systemd
/// hands over are served too. Without --tls-certificates there is no encryption, and whoever can connect
/// can read and write the disk.
///
/// A client has 10 s for its handshake, and requests of at most 32 MiB, 16 of them in flight; all clients
/// together have 256 MiB of memory for them, and go on more slowly without.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The image's descriptor; several are exported by the names before `=`, or those of their files
    #[arg(required = true, value_name = "[NAME=]IMAGE", value_parser = chosen())]
    images: Vec<Chosen>,
    /// Take FILE, or the disk of the NBD server at this address, for the data image, whatever the
    /// descriptor names
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// Which other files may be opened.
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    secrecy: Secrecy,
    /// How the bytes are moved
    #[arg(long, value_enum, default_value = "threads")]
    aio: Aio,
    /// Refuse writes
    #[arg(short, long)]
    read_only: bool,
    /// Let clients see the bitmap NAME, as qemu:dirty-bitmap:NAME, of each image that has it; may be
    /// repeated
    #[arg(short = 'B', long, value_name = "NAME")]
    bitmap: Vec<String>,
    /// The name that clients ask for; they may always ask for the empty one, which is that of the first
    /// image
    #[arg(short = 'x', long, value_name = "NAME", value_parser = short_text)]
    export_name: Option<String>,
    /// Text about the exports, for people
    #[arg(short = 'D', long, value_name = "TEXT", default_value = "", value_parser = short_text)]
    description: String,
    /// Serve at most N clients at a time
    #[arg(short = 'e', long, value_name = "N", default_value = "64", value_parser = connections)]
    max_connections: u16,
    /// Let programs of this user and of root control the images by QMP, on a Unix socket at PATH; by
    /// default IMAGE.qmp for each, unless they are served read-only
    #[arg(long, value_name = "PATH")]
    qmp: Option<PathBuf>,
    /// Deny those who control the images what FILE says, and let only the users connect that it names:
    /// { "deny": ["destructive"], "users": [0] }; docs/qmp.md has more
    #[arg(long, value_name = "FILE")]
    qmp_policy: Option<PathBuf>,
    /// Write the process id to FILE once clients can connect; it is removed when all images are closed
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return once clients can connect, and serve in the background; what would be told on standard
    /// error is then lost
    #[arg(long)]
    fork: bool,
    /// Tell also who comes and goes; twice, all that can be told. The variable `QBM_LOG` sets the least:
    /// off, error, warn, info (the default), debug or trace
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// This is the process in the background
    #[arg(long, hide = true)]
    forked: bool,
}

/// Where clients connect.
#[derive(Args, Debug)]
pub(super) struct Places {
    /// Listen on a Unix socket at PATH
    #[arg(short = 'k', long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on the TCP port N; 0 takes a free one
    #[arg(short, long, value_name = "N")]
    port: Option<u16>,
    /// The address of the TCP port
    #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1", requires = "port")]
    bind: String,
}

fn chosen() -> impl TypedValueParser<Value = Chosen> {
    OsStringValueParser::new().try_map(Chosen::parse)
}

fn short_text(text: &str) -> Result<String, String> {
    if text.len() > MAX_NAME {
        return Err(format!("it is longer than {MAX_NAME} bytes"));
    }
    Ok(text.to_owned())
}

fn connections(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(count @ 1..=4096) => Ok(count),
        _ => Err("it is not a number from 1 to 4096".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
///
/// If nothing can be served, or the image cannot be closed cleanly.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    if args.forked {
        fork::leave_terminal().context("--fork")?;
    } else if args.fork {
        return fork::start();
    }
    logging::start(args.verbose)?;
    // Before all else, so that every thread leaves them to the one that waits for them.
    signals::block()?;
    let tls = args.secrecy.read()?;
    let places = places::open(&args.places)?;
    let graph = Arc::new(Graph::default());
    let mut pid_file = None;
    let served = chosen::open(args, &graph).and_then(|images| {
        pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
        let entrances = entrances(args, &images)?;
        serve(args, (&graph, images), tls, (places, entrances))
    });
    // Closed either way.
    let closed = graph.close();
    // Others can wait for that.
    drop(pid_file);
    served.and(closed)?;
    Ok(ExitCode::SUCCESS)
}

/// Where monitors connect. Only once the images are ours: another server may have the sockets.
fn entrances(args: &ServeArgs, images: &[Opened]) -> anyhow::Result<Vec<Entrance>> {
    let paths = match &args.qmp {
        Some(path) => vec![path.clone()],
        None if args.read_only => Vec::new(),
        None => images.iter().map(|opened| remote::socket_of(&opened.path)).collect(),
    };
    let policy = args.qmp_policy.as_deref().map(Policy::read).transpose()?.unwrap_or_default();
    let entrance = |path: PathBuf| {
        let listener = places::bind_private(&path).with_context(|| path.display().to_string());
        let listener = listener.context("--qmp PATH can put the control elsewhere")?;
        Ok(Entrance { listener, file: SocketFile::new(path), policy: policy.clone() })
    };
    paths.into_iter().map(entrance).collect()
}

fn serve(
    args: &ServeArgs,
    (graph, images): (&Arc<Graph>, Vec<Opened>),
    tls: Option<Tls>,
    (places, entrances): (Vec<Place>, Vec<Entrance>),
) -> anyhow::Result<()> {
    let about = about(&images);
    let scheme = if tls.is_some() { "nbds" } else { "nbd" };
    let exports = images.iter().map(|opened| opened.export(&args.description, &args.bitmap));
    let limits = Limits { connections: args.max_connections.into(), ..Limits::default() };
    let server = Server::new(exports.collect(), limits, report(&about, |line| error!("{line}")));
    let server = match tls {
        Some(tls) => server.with_tls(tls),
        None => server,
    };
    for place in &places {
        for opened in &images {
            println!("serving {}", place.address(scheme, &opened.name));
        }
    }
    if args.forked {
        fork::detach().context("--fork")?;
    }
    let nbd = NbdServer::start(Arc::new(server), places)?;
    let control = Control::new(Arc::clone(graph), args.gate.clone());
    let exports = images.into_iter().map(|opened| (opened.name, opened.disk)).collect();
    control.serve_first(nbd, exports);
    let controlled = Controlled::start(control, entrances, report(&about, |line| info!("{line}")));
    signals::wait(|| controlled.tell_statistics());
    controlled.end()
}

/// What a line about `images` begins with: the one, if there is no other.
fn about(images: &[Opened]) -> String {
    match images {
        [opened] => format!("{}: ", opened.path.display()),
        _ => String::new(),
    }
}

/// Tells the operator lines by `tell`.
fn report(about: &str, tell: fn(String)) -> impl Fn(&str) + Clone + Send + Sync + 'static {
    let about = about.to_owned();
    move |line| tell(format!("{about}{line}"))
}
