//! `qbm serve`: lets virtual machines and backup programs attach to an image, by NBD.

mod control;
mod fork;
mod places;
mod secrecy;
mod signals;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use futures_executor::block_on;
use qbm_core::{Access, Error};
use qbm_nbd::limits::MAX_NAME;
use qbm_nbd::{Export, Limits, Server, Stop, Tls};

use self::control::Controlled;
use self::places::{PidFile, Place, SocketFile};
use self::secrecy::Secrecy;
use crate::aio::Aio;
use crate::open::{FileImage, ImageArgs, naming};
use crate::remote;

/// Let virtual machines and backup programs attach to an image, by NBD
///
/// Serves until SIGTERM or SIGINT, and then closes the image cleanly; whatever ends it otherwise, no
/// mark is lost. SIGUSR1 prints what it has done so far, on standard error. Sockets that systemd
/// hands over are served too. Without --tls-certificates there is no encryption, and whoever can connect
/// can read and write the disk.
///
/// A client has 10 s for its handshake, and requests of at most 32 MiB, 16 of them in flight; all clients
/// together have 256 MiB of memory for them, and go on more slowly without.
#[derive(Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    image: ImageArgs,
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
    /// Let clients see the bitmap NAME, as qemu:dirty-bitmap:NAME; may be repeated
    #[arg(short = 'B', long, value_name = "NAME")]
    bitmap: Vec<String>,
    /// The name that clients ask for; they may always ask for the empty one
    #[arg(short = 'x', long, value_name = "NAME", default_value = "", value_parser = short_text)]
    export_name: String,
    /// Text about the export, for people
    #[arg(short = 'D', long, value_name = "TEXT", default_value = "", value_parser = short_text)]
    description: String,
    /// Serve at most N clients at a time
    #[arg(short = 'e', long, value_name = "N", default_value = "64", value_parser = connections)]
    max_connections: u16,
    /// Let programs of this user and of root control the image by QMP, on a Unix socket at PATH; by
    /// default IMAGE.qmp, unless it is served read-only
    #[arg(long, value_name = "PATH")]
    qmp: Option<PathBuf>,
    /// Write the process id to FILE once clients can connect; it is removed when the image is closed
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return once clients can connect, and serve in the background; what would be told on standard
    /// error is then lost
    #[arg(long)]
    fork: bool,
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
    // Before all else, so that every thread leaves them to the one that waits for them.
    signals::block()?;
    let tls = args.secrecy.read()?;
    let places = places::open(&args.places)?;
    let access = if args.read_only { Access::Read } else { Access::Write };
    let image = args.image.open_by(args.aio, access, false)?;
    check_bitmaps(&image, &args.bitmap).map_err(naming(&args.image.image))?;
    // Removed when the image is closed, so that others can wait for that.
    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    let monitors = monitors(args)?;
    let image = Arc::new(image);
    let served = serve(args, Arc::clone(&image), tls, (places, monitors));
    let image = Arc::into_inner(image).expect("the server has given it back");
    // Closed either way.
    let closed = block_on(image.close());
    served?;
    closed.map_err(naming(&args.image.image))?;
    Ok(ExitCode::SUCCESS)
}

fn check_bitmaps(image: &FileImage, wanted: &[String]) -> Result<(), Error> {
    let bitmaps = block_on(image.bitmaps());
    let missing = wanted.iter().find(|name| bitmaps.iter().all(|bitmap| bitmap.name != **name));
    missing.map_or(Ok(()), |name| Err(Error::BitmapNotFound(name.clone())))
}

/// Where monitors connect. Only once the image is ours: another server may have the socket.
fn monitors(args: &ServeArgs) -> anyhow::Result<Option<(UnixListener, SocketFile)>> {
    let path = match &args.qmp {
        Some(path) => path.clone(),
        None if args.read_only => return Ok(None),
        None => remote::socket_of(&args.image.image),
    };
    let listener = places::bind_private(&path).with_context(|| path.display().to_string());
    let listener = listener.context("--qmp PATH can put the control elsewhere")?;
    Ok(Some((listener, SocketFile::new(path))))
}

fn serve(
    args: &ServeArgs,
    image: Arc<FileImage>,
    tls: Option<Tls>,
    (places, monitors): (Vec<Place>, Option<(UnixListener, SocketFile)>),
) -> anyhow::Result<()> {
    let scheme = if tls.is_some() { "nbds" } else { "nbd" };
    let export = Export {
        name: args.export_name.clone(),
        description: args.description.clone(),
        access: image.access(),
        disk: Arc::clone(&image) as _,
        bitmaps: args.bitmap.clone(),
    };
    let limits = Limits { connections: args.max_connections.into(), ..Limits::default() };
    let name = args.image.image.display().to_string();
    let report = move |line: &str| eprintln!("qbm: {name}: {line}");
    let server = Server::new(vec![export], limits, report.clone());
    let server = match tls {
        Some(tls) => server.with_tls(tls),
        None => server,
    };
    let server = Arc::new(server);
    let (stopper, stop) = Stop::new().context("stopping")?;
    signals::watch(stopper, server.statistics()).context("signals")?;
    for place in &places {
        println!("serving {}", place.address(scheme, &args.export_name));
    }
    if args.forked {
        fork::detach().context("--fork")?;
    }
    let (listeners, _files): (Vec<_>, Vec<_>) = places.into_iter().map(Place::split).unzip();
    let control = monitors.map(|(listener, file)| {
        let gate = args.image.gate.clone();
        (Controlled::start((image, Arc::clone(&server)), gate, listener, report), file)
    });
    let served = server.serve(&listeners, &stop).context("waiting for clients");
    if let Some((control, _file)) = control {
        control.end();
    }
    served
}
