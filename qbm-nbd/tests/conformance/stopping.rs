//! A server that listens: who is served, who is cut off, and how it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use qbm_nbd::limits::MAX_SKIPPED_OPTION;
use qbm_nbd::{Limits, Listener, Server, Stop, Stopper};

use super::client::{Ask, Client, FIXED, NO_ZEROES, cmd, export_request, opt, option_header, rep};
use super::memory::{MemoryDisk, SLOW};

/// A server on a Unix socket and a TCP port.
pub(crate) struct Listening {
    disk: Arc<MemoryDisk>,
    pub(crate) server: Arc<Server>,
    pub(crate) socket: PathBuf,
    port: std::net::SocketAddr,
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Listening {
    fn new(limits: Limits) -> Self {
        let disk = MemoryDisk::new();
        let server = disk.server(limits);
        Self::of(disk, server)
    }

    pub(crate) fn of(disk: Arc<MemoryDisk>, server: Arc<Server>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let unix = UnixListener::bind(&socket).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap();
        let (stopper, stop) = Stop::new().unwrap();
        let serving = Arc::clone(&server);
        let listeners = [Listener::Unix(unix), Listener::Tcp(tcp)];
        let thread = thread::spawn(move || serving.serve(&listeners, &stop).unwrap());
        let (stopper, thread) = (Some(stopper), Some(thread));
        Self { disk, server, socket, port, stopper, thread, _folder: folder }
    }

    /// A client in transmission.
    fn client(&self) -> Client {
        let mut client = Client::over(UnixStream::connect(&self.socket).unwrap());
        client.greet(FIXED | NO_ZEROES);
        client.go("disk");
        client
    }

    /// Stops it; how long that took.
    fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.stopper.take().unwrap().stop();
        self.thread.take().unwrap().join().unwrap();
        begun.elapsed()
    }
}

const SOON: Duration = Duration::from_millis(900);

#[test]
fn a_server_that_nobody_visits_stops_at_once() {
    let mut server = Listening::new(Limits::default());
    assert!(server.stop() < SOON);
    assert!(TcpStream::connect(server.port).is_err(), "nobody listens");
}

#[test]
fn both_listeners_are_served_and_stop_alike() {
    for tcp in [false, true] {
        let mut server = Listening::new(Limits::default());
        let mut client = server.client();
        let mut waiting: Box<dyn Write> = if tcp {
            Box::new(TcpStream::connect(server.port).unwrap())
        } else {
            Box::new(UnixStream::connect(&server.socket).unwrap())
        };
        // In the middle of its handshake: bad inputs, 70.
        waiting.write_all(&[0, 0]).unwrap();
        assert_eq!(client.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
        assert!(server.stop() < SOON, "idle clients and handshakes do not hold it up");
        client.hung_up();
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_hold_up_the_stop() {
    let grace = Duration::from_millis(200);
    let mut server = Listening::new(Limits { grace, ..Limits::default() });
    let mut client = server.client();
    // Replies of 64 MiB, more than any socket holds.
    client.send(&Ask::new(cmd::READ, 0, 1 << 20).compact().repeat(64));
    while server.server.statistics().reads.get() == 0 {
        thread::yield_now();
    }
    assert!(server.stop() < grace + SOON);
    drop(client);
}

#[test]
fn requests_under_way_are_answered_before_the_server_stops() {
    let mut server = Listening::new(Limits::default());
    let mut client = server.client();
    let ask = Ask::new(cmd::WRITE, SLOW, 1);
    client.send(&[&ask.compact()[..], b"x"].concat());
    // The next request is received only after the write.
    assert_eq!(client.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
    let disk = Arc::clone(&server.disk);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        disk.open();
        assert_eq!(client.simple_reply(&ask), 0);
        assert!(stopping.join().unwrap() < SOON);
    });
    client.hung_up();
}

/// Bad inputs, 67: a client that never reads is cut off, so that it does not hold its place for ever.
#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let send = Duration::from_millis(100);
    let server = Listening::new(Limits { send, ..Limits::default() });
    let mut client = server.client();
    client.send(&Ask::new(cmd::READ, 0, 1 << 20).compact().repeat(64));
    let begun = Instant::now();
    while server.server.statistics().serving.get() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread::yield_now();
    }
    drop(client);
}

/// Bad inputs, 67: a byte now and then does not make a handshake longer.
#[test]
fn a_slow_handshake_is_cut_off() {
    let handshake = Duration::from_millis(300);
    let server = Listening::new(Limits { handshake, ..Limits::default() });
    let mut served = server.client();
    let begun = Instant::now();
    let mut slow = UnixStream::connect(&server.socket).unwrap();
    // The data of this option would take weeks.
    slow.write_all(&FIXED.to_be_bytes()).unwrap();
    slow.write_all(&option_header(4711, MAX_SKIPPED_OPTION)).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    slow.read_exact(&mut [0; 18]).unwrap();
    while slow.write_all(&[0]).is_ok() && slow.read(&mut [0]).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert!(begun.elapsed() >= handshake);
    assert_eq!(server.server.statistics().evicted.get(), 1);
    assert_eq!(served.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0, "who is served is not cut off");
}

/// Bad inputs, 67: sockets that say nothing, many more than may be in their handshake.
#[test]
fn many_stalled_clients_do_not_keep_an_honest_one_from_being_served() {
    let server = Listening::new(Limits::default());
    let connect = |_| UnixStream::connect(&server.socket).unwrap();
    let stalled: Vec<_> = (0..500).map(connect).collect();
    let begun = Instant::now();
    let mut client = server.client();
    assert_eq!(client.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop(stalled);
}

/// So that it can be closed: neither a request under way nor a slow handshake has it any more.
#[test]
fn nobody_has_the_disk_of_a_removed_export() {
    let server = Listening::new(Limits::default());
    let mut client = server.client();
    let mut haggling = Client::over(UnixStream::connect(&server.socket).unwrap());
    haggling.greet(FIXED | NO_ZEROES);
    client.send(&[&Ask::new(cmd::WRITE, SLOW, 1).compact()[..], b"x"].concat());
    assert_eq!(client.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0, "the write is under way");
    thread::scope(|scope| {
        let removing = scope.spawn(|| {
            server.server.remove("disk");
            server.server.remove("mirror");
        });
        client.hung_up();
        assert!(!removing.is_finished(), "the write is under way");
        server.disk.open();
    });
    assert_eq!(Arc::strong_count(&server.disk), 1);
    haggling.refused(opt::GO, &export_request("disk", &[]), rep::ERR_UNKNOWN);
}
