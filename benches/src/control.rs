//! What commands of many monitors cost a guest: its writes beside 8 monitors that ask one command after the other,
//! and beside none.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use benches::compare;
use qbm_qmp::Client;
use serde_json::json;

use crate::Row;
use crate::serving::{Qbm, Served, fill};

const MONITORS: usize = 8;

/// The time that 99 of 100 writes of 4 KiB take at most, one after the other for a second.
fn latency(served: &Served) -> anyhow::Result<Duration> {
    let mut command = Command::new("fio");
    command.args(["--name=bench", "--ioengine=nbd", "--bs=4k", "--rw=randwrite", "--iodepth=1"]);
    command.args(["--time_based", "--runtime=1", "--size=64m", "--output-format=json"]);
    command.arg(format!("--uri={}", served.uri));
    let output = command.output().context("fio")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    let begin = said.find('{').context("no JSON in its output")?;
    let told: serde_json::Value = serde_json::from_str(&said[begin..])?;
    let nanoseconds = told["jobs"][0]["write"]["clat_ns"]["percentile"]["99.000000"].as_u64();
    Ok(Duration::from_nanos(nanoseconds.context("no percentile")?))
}

/// Asks until it is `over`; returns how many commands were answered.
fn ask(socket: &Path, name: &str, over: &AtomicBool) -> anyhow::Result<u64> {
    let mut monitor = Client::connect(socket, &[])?;
    let bitmap = json!({ "node": "control.qbm", "name": name });
    let mut answered = 0;
    while !over.load(Ordering::Relaxed) {
        for verb in ["add", "disable", "enable", "clear", "remove"] {
            monitor.execute(&format!("block-dirty-bitmap-{verb}"), &bitmap)?;
            monitor.execute("query-named-block-nodes", &json!({}))?;
            answered += 2;
        }
    }
    Ok(answered)
}

/// In a folder of the file system `place`.
pub(crate) fn row(place: &str, folder: &Path) -> anyhow::Result<Row> {
    let qbm = Qbm::within(folder)?;
    let (server, _disk) = qbm.serve("control", "threads")?;
    fill(&[&server])?;
    let socket = folder.join("control.qbm.qmp");
    let mut answered = 0;
    let beside_commands = || {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (socket, over) = (&socket, &over);
            let monitor = |number| scope.spawn(move || ask(socket, &format!("m{number}"), over));
            let monitors: Vec<_> = (0..MONITORS).map(monitor).collect();
            let latency = latency(&server);
            over.store(true, Ordering::Relaxed);
            for monitor in monitors {
                answered += monitor.join().expect("no monitor panics")?;
            }
            latency
        })
    };
    let comparison = compare(5, beside_commands, || latency(&server))?;
    ensure!(answered > 10_000, "only {answered} commands were answered");
    Ok(Row {
        what: format!("4 KiB writes of a guest beside {MONITORS} monitors, 99 of 100, {place}"),
        ours: comparison.ours.to_string(),
        rival: format!("without commands: {}", comparison.theirs),
        figure: format!("{:.2} times; {} commands a second", comparison.ratio, answered / 6),
        goal: "1.5 times",
    })
}
