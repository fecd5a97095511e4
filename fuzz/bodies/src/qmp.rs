//! Any bytes are what a monitor sends.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, OnceLock};

use qbm_qmp::limits::{MAX_DEPTH, MAX_MESSAGE};
use qbm_qmp::{Call, Commands, Config, Framer, Refusal, Server, json};
use serde_json::Value;

/// A limit that inputs reach.
const SHORT: usize = 64;

/// Answers every command with what came with it.
struct Echo;

impl Commands for Echo {
    fn names(&self) -> &[&'static str] {
        &["echo"]
    }

    fn execute(&self, call: Call) -> Result<Value, Refusal> {
        Ok(call.arguments.into())
    }
}

/// One server for all inputs, at this address, which is no file.
fn server() -> &'static SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    SERVER.get_or_init(|| {
        let name = format!("qbm-fuzz-qmp-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("a socket");
        let server = Server::new(listener, Config::for_us("fuzz"), Arc::new(Echo));
        std::thread::spawn(move || server.serve());
        address
    })
}

/// The bytes are all that a monitor sends. However they are cut, no message is longer or deeper than
/// it may be; what is read can be written and read again; and each message has one reply, in ASCII.
///
/// # Panics
///
/// If that does not hold.
pub fn qmp(bytes: &[u8]) {
    let mut short = Framer::new(SHORT);
    for message in bytes.iter().filter_map(|byte| short.push(*byte)?.ok()) {
        assert!(message.len() <= SHORT, "{} bytes", message.len());
    }
    let mut framer = Framer::new(MAX_MESSAGE);
    let frames: Vec<_> = bytes.iter().filter_map(|byte| framer.push(*byte)).collect();
    for message in frames.iter().flatten() {
        let Ok(value) = json::parse(message) else { continue };
        assert!(depth(&value) <= MAX_DEPTH, "too deep");
        let line = json::to_line(&value);
        assert!(line.is_ascii() && !line.contains(|c: char| c.is_ascii_control()), "{line:?}");
        assert_eq!(json::parse(line.as_bytes()).ok(), Some(value), "{line}");
    }
    assert_eq!(replies(bytes), frames.len() + 1, "a greeting, and one reply for each message");
}

/// How many lines the server says, each of which is an object.
fn replies(bytes: &[u8]) -> usize {
    let mut stream = UnixStream::connect_addr(server()).expect("the server listens");
    let mut reader = stream.try_clone().expect("a handle");
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).expect("ASCII");
        said
    });
    stream.write_all(bytes).expect("the server reads on");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let said = said.join().expect("it reads to the end");
    let lines: Vec<&str> = said.split_terminator("\r\n").collect();
    for line in &lines {
        assert!(json::parse(line.as_bytes()).is_ok_and(|reply| reply.is_object()), "{line:?}");
    }
    lines.len()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
