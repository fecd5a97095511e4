//! The protocol at byte level, against a server of a few commands.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qbm_qmp::limits::{MAX_DEPTH, MAX_MESSAGE, MAX_MONITORS};
use qbm_qmp::{Call, Client, ClientError, Commands, Config, Refusal, Server};
use serde_json::{Value, json};

struct Sample;

impl Commands for Sample {
    fn names(&self) -> &[&'static str] {
        &["double"]
    }

    fn execute(&self, call: Call) -> Result<Value, Refusal> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Double {
            number: u32,
        }
        match call.command.as_str() {
            "double" => call.arguments().map(|Double { number }| json!(2 * u64::from(number))),
            _ => Err(call.not_found()),
        }
    }
}

/// Runs `test` beside a server at a path.
fn with_server(config: Config, test: impl FnOnce(&Path, &Server)) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("qmp");
    let server = Server::new(UnixListener::bind(&path).unwrap(), config, Arc::new(Sample));
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve());
        // Also if the test fails, so that the failure is told.
        let _stop = Stop(&server);
        test(&path, &server);
    });
}

struct Stop<'a>(&'a Server);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A monitor that has been greeted.
struct Monitor {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    greeting: String,
}

impl Monitor {
    fn new(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut monitor = Self { stream, lines, greeting: String::new() };
        monitor.greeting = monitor.line();
        monitor
    }

    fn open(path: &Path) -> Self {
        let mut monitor = Self::new(path);
        assert_eq!(monitor.ask(r#"{"execute":"qmp_capabilities"}"#), r#"{"return": {}}"#);
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").expect("a line ends as the protocol says").to_owned()
    }

    fn ask(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.stream.write_all(b"\n").unwrap();
        self.line()
    }
}

fn refused(class: &str, what: &str) -> String {
    format!(r#"{{"error": {{"class": "{class}", "desc": "{what}"}}}}"#)
}

fn generic(what: &str) -> String {
    refused("GenericError", what)
}

#[test]
fn a_server_greets_and_lets_nothing_be_done_before_the_negotiation() {
    with_server(Config::for_us("sample 1"), |path, _| {
        let mut monitor = Monitor::new(path);
        let version = r#"{"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": "sample 1"}"#;
        let greeting = format!(r#"{{"QMP": {{"version": {version}, "capabilities": []}}}}"#);
        assert_eq!(monitor.greeting, greeting);
        let early = "Expecting capabilities negotiation with 'qmp_capabilities'";
        for command in ["query-version", "double", "nothing"] {
            let reply = monitor.ask(&format!(r#"{{"execute":"{command}"}}"#));
            assert_eq!(reply, refused("CommandNotFound", early));
        }
        let ask = r#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#;
        let what = "Parameter 'enable[0]' does not accept value 'oob'";
        assert_eq!(monitor.ask(ask), generic(what));
        let ask = r#"{"execute":"qmp_capabilities","id":[1,{"a":null}]}"#;
        assert_eq!(monitor.ask(ask), r#"{"return": {}, "id": [1, {"a": null}]}"#);
        let late = "Capabilities negotiation is already complete, command ignored";
        let ask = r#"{"execute":"qmp_capabilities"}"#;
        assert_eq!(monitor.ask(ask), refused("CommandNotFound", late));
        let reply = monitor.ask(r#"{"execute":"query-version"}"#);
        assert_eq!(reply, format!(r#"{{"return": {version}}}"#));
        assert!(monitor.ask(r#"{"execute":"query-commands"}"#).contains(r#"{"name": "double"}"#));
    });
}

#[test]
fn what_is_no_command_is_refused_in_the_words_of_qemu() {
    with_server(Config::for_us("sample"), |path, _| {
        let mut monitor = Monitor::open(path);
        let not_found = "The command nothing has not been found";
        let cases = [
            (r#"{"execute":"double","arguments":{"number":4}}"#, r#"{"return": 8}"#.to_owned()),
            (r#"{"execute":"nothing"}"#, refused("CommandNotFound", not_found)),
            (r#"{"exec-oob":"double"}"#, generic("QMP input member 'exec-oob' is unexpected")),
            (r#"{"execute":"double","x":1}"#, generic("QMP input member 'x' is unexpected")),
            (r#"{"arguments":{}}"#, generic("QMP input lacks member 'execute'")),
            (r#"{"execute":1}"#, generic("QMP input member 'execute' must be a string")),
            (
                r#"{"execute":"double","arguments":1}"#,
                generic("QMP input member 'arguments' must be an object"),
            ),
            ("[]", generic("QMP input must be a JSON object")),
            ("7", generic("QMP input must be a JSON object")),
            (r#"{"execute":"double"}"#, generic("Parameter 'number' is missing")),
            (
                r#"{"execute":"double","arguments":{"number":1,"numbers":2}}"#,
                generic("Parameter 'numbers' is unexpected"),
            ),
            (
                r#"{"execute":"query-version","arguments":{"x":1}}"#,
                generic("Parameter 'x' is unexpected"),
            ),
        ];
        for (ask, reply) in cases {
            assert_eq!(monitor.ask(ask), reply, "{ask}");
        }
        for broken in ["{]", "foo", r#"{"a":1,"a":2}"#, "{'execute':'double'}", "\"\u{1b}[2J\""] {
            let reply = monitor.ask(broken);
            assert!(reply.contains(r#"{"class": "GenericError", "desc": "JSON parse error, "#));
            assert!(reply.is_ascii() && !reply.contains('\u{1b}'), "{reply}");
        }
        let odd = "{\"execute\":\"\\u001b]0;\u{e9}\u{9b}\"}";
        let what = r"The command \u001b]0;\u00e9\u009b has not been found";
        assert_eq!(monitor.ask(odd), refused("CommandNotFound", what));
    });
}

/// Case 71 of the bad inputs: the server reads on, and neither takes memory nor hangs up.
#[test]
fn a_line_of_64_mib_and_deep_nesting_are_skipped_and_refused() {
    with_server(Config::for_us("sample"), |path, _| {
        let mut monitor = Monitor::open(path);
        let mut stream = monitor.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            stream.write_all(b"{\"execute\":\"").unwrap();
            for _ in 0..64 {
                stream.write_all(&vec![b'a'; 1 << 20]).unwrap();
            }
            stream.write_all(b"\"}\n").unwrap();
        });
        let what = format!("JSON message is longer than {MAX_MESSAGE} bytes");
        assert_eq!(monitor.line(), generic(&what));
        sender.join().unwrap();
        let what = format!("JSON nesting is deeper than {MAX_DEPTH}");
        assert_eq!(monitor.ask(&"[".repeat(100_000)), generic(&what));
        let ask = r#"{"execute":"double","arguments":{"number":4}}"#;
        assert_eq!(monitor.ask(ask), r#"{"return": 8}"#);
        // The longest that is let in is answered.
        let id = "a".repeat(MAX_MESSAGE - ask.len() - 8);
        let longest = format!(r#"{},"id":"{id}"}}"#, &ask[..ask.len() - 1]);
        assert_eq!(longest.len(), MAX_MESSAGE);
        assert_eq!(monitor.ask(&longest).len(), id.len() + r#"{"return": 8, "id": ""}"#.len());
    });
}

#[test]
fn every_monitor_hears_of_an_event_after_its_negotiation() {
    with_server(Config::for_us("sample"), |path, server| {
        let mut open = [Monitor::open(path), Monitor::open(path)];
        let mut silent = Monitor::new(path);
        server.events().emit("SOMETHING", &json!({ "a": 1 }));
        for monitor in &mut open {
            let line: Value = serde_json::from_str(&monitor.line()).unwrap();
            assert_eq!((&line["event"], &line["data"]), (&json!("SOMETHING"), &json!({ "a": 1 })));
            assert!(line["timestamp"]["seconds"].as_u64().unwrap() > 1_700_000_000);
            assert!(line["timestamp"]["microseconds"].as_u64().unwrap() < 1_000_000);
        }
        // It hears only of what comes after.
        assert_eq!(silent.ask(r#"{"execute":"qmp_capabilities"}"#), r#"{"return": {}}"#);
    });
}

#[test]
fn a_monitor_of_another_user_is_turned_away_before_the_greeting() {
    let (told, heard) = std::sync::mpsc::channel();
    let report = Box::new(move |line: &str| told.send(line.to_owned()).unwrap());
    let config = Config { package: String::new(), allowed: vec![u32::MAX - 1], report };
    with_server(config, |path, _| {
        let mut stream = UnixStream::connect(path).unwrap();
        let mut said = Vec::new();
        // It may be told by a reset.
        let _read = stream.read_to_end(&mut said);
        assert!(said.is_empty());
        assert!(heard.recv().unwrap().ends_with("is not allowed to control this"));
    });
}

#[test]
fn monitors_beyond_the_limit_are_hung_up_on() {
    with_server(Config::for_us("sample"), |path, _| {
        let monitors: Vec<Monitor> = (0..MAX_MONITORS).map(|_| Monitor::open(path)).collect();
        let mut one_more = UnixStream::connect(path).unwrap();
        assert_eq!(one_more.read(&mut [0; 10]).unwrap_or(0), 0);
        drop(monitors);
    });
}

#[test]
fn a_server_that_stops_hangs_up_on_its_monitors() {
    with_server(Config::for_us("sample"), |path, server| {
        let mut monitor = Monitor::open(path);
        server.stop();
        assert_eq!(monitor.lines.read_line(&mut String::new()).unwrap(), 0);
    });
}

#[test]
fn a_client_gets_replies_and_keeps_events_for_later() {
    with_server(Config::for_us("sample"), |path, server| {
        let mut client = Client::connect(path, &[]).unwrap();
        server.events().emit("SOMETHING", &json!({}));
        assert_eq!(client.execute("double", &json!({ "number": 4 })).unwrap(), json!(8));
        assert_eq!(client.next_event(Duration::from_secs(60)).unwrap().unwrap().name, "SOMETHING");
        assert_eq!(client.next_event(Duration::from_millis(1)).unwrap(), None);
        let refused = client.execute("nothing", &json!({})).unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused { class, .. } if class == "CommandNotFound")
        );
    });
}
