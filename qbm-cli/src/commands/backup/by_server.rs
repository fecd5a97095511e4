//! A backup of an image that a server has: the server stores the point, while its guest goes on.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use qbm_core::backup::Progress;
use qbm_qmp::Event;
use serde_json::{Value, json};

use super::{BackupArgs, Stored, tell};
use crate::progress::Bar;
use crate::remote::Remote;

/// How often to ask how far it has come, where nothing else happens.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the command.
pub(super) fn run(args: &BackupArgs, mut server: Remote) -> anyhow::Result<ExitCode> {
    let image = args.image.image.display().to_string();
    if args.estimate {
        bail!("{image}: an estimate cannot be made while a server has it; see qbm info --marks");
    }
    let stored = store(args, &mut server).with_context(|| image)?;
    tell(args, &stored);
    Ok(ExitCode::SUCCESS)
}

fn store(args: &BackupArgs, server: &mut Remote) -> anyhow::Result<Stored> {
    add_missing_bitmap(args, server)?;
    let job = format!("backup-{}", std::process::id());
    // The server has a working directory of its own.
    let target = std::path::absolute(&args.target)?;
    let target = target.to_str().context("the name of the target is not UTF-8")?;
    let mut arguments = json!({
        "job-id": job,
        "device": server.node,
        "target": target,
        "bitmap": args.bitmap,
    });
    let (sync, mode) = match (args.full, args.require_incremental) {
        (true, _) => ("full", None),
        (_, true) => ("incremental", None),
        _ => ("bitmap", Some("on-success")),
    };
    arguments["sync"] = json!(sync);
    if let Some(mode) = mode {
        arguments["bitmap-mode"] = json!(mode);
    }
    if let Some(limit) = args.fleece_limit {
        arguments["x-fleece-limit"] = json!(limit);
    }
    server.client.execute("blockdev-backup", &arguments)?;
    wait(server, &job)
}

fn add_missing_bitmap(args: &BackupArgs, server: &mut Remote) -> anyhow::Result<()> {
    let facts = server.facts()?;
    let bitmaps = facts["dirty-bitmaps"].as_array();
    let named = |bitmap: &Value| bitmap["name"] == json!(args.bitmap);
    if !bitmaps.is_some_and(|bitmaps| bitmaps.iter().any(named)) {
        let add = json!({
            "node": server.node,
            "name": args.bitmap,
            "granularity": args.granularity.bytes(),
            "persistent": true,
        });
        server.client.execute("block-dirty-bitmap-add", &add)?;
    }
    Ok(())
}

/// Waits until `job` has ended, and shows how far it has come.
fn wait(server: &mut Remote, job: &str) -> anyhow::Result<Stored> {
    let mut bar = Bar::new("backup");
    loop {
        match server.client.next_event(LOOK)? {
            Some(Event { name, data }) if data["device"] == json!(job) => match name.as_str() {
                "BLOCK_JOB_COMPLETED" => return stored(&data),
                "BLOCK_JOB_CANCELLED" => bail!("the backup was cancelled"),
                _ => {}
            },
            Some(_) => {}
            None => bar.show(progress(server, job)?),
        }
    }
}

fn stored(data: &Value) -> anyhow::Result<Stored> {
    if let Some(error) = data["error"].as_str() {
        return Err(anyhow!("{error}"));
    }
    serde_json::from_value(data["x-point"].clone())
        .context("the server does not say what it stored")
}

fn progress(server: &mut Remote, job: &str) -> anyhow::Result<Progress> {
    let jobs = server.client.execute("query-jobs", &json!({}))?;
    let found =
        jobs.as_array().and_then(|jobs| jobs.iter().find(|found| found["id"] == json!(job)));
    let number = |name: &str| found.and_then(|found| found[name].as_u64()).unwrap_or(0);
    Ok(Progress { done: number("current-progress"), total: number("total-progress") })
}
