//! `cargo xtask bench`: what tracking costs, beside not tracking, a backup beside qemu-img, and the
//! server beside others. With arguments, only what they name: `aio`, `audit`, `backup`, `chains`, `control`, `marks`, `opening`,
//! `serving`.
//!
//! Every answer is checked. What is counted (calls, syncs, memory) must meet its goal, or the run
//! fails; what is timed is printed as a ratio to the rival of the same run, and never decides.
#![forbid(unsafe_code)]

mod aio;
mod audit;
mod backup;
mod chains;
mod control;
mod marks;
mod opening;
mod serving;

use std::path::Path;
use std::process::ExitCode;

/// A row of the table.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) rival: String,
    pub(crate) figure: String,
    pub(crate) goal: &'static str,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, path] = arguments.as_slice()
        && child == "--open"
    {
        opening::child(Path::new(path))?;
        return Ok(ExitCode::SUCCESS);
    }
    let disk = tempfile::tempdir_in(".")?;
    let memory = tempfile::tempdir_in("/dev/shm")?;
    let places = [("tmpfs", memory.path()), ("disk", disk.path())];
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|it| it == name);
    let mut rows = Vec::new();
    if wanted("backup") {
        for (place, folder) in places {
            rows.push(backup::row(place, folder)?);
        }
    }
    if wanted("audit") {
        rows.push(audit::row("tmpfs", memory.path())?);
    }
    if wanted("marks") {
        for (place, folder) in places {
            rows.extend(marks::warm(place, folder)?);
        }
        rows.push(marks::cold(disk.path())?);
    }
    if wanted("opening") {
        rows.extend(opening::rows(disk.path())?);
    }
    if wanted("serving") {
        for (place, folder) in places {
            rows.extend(serving::rows(place, folder)?);
        }
    }
    if wanted("chains") {
        for (place, folder) in places {
            rows.extend(chains::rows(place, folder)?);
        }
    }
    if wanted("control") {
        for (place, folder) in places {
            rows.push(control::row(place, folder)?);
        }
    }
    if wanted("aio") {
        rows.extend(aio::rows("disk", disk.path())?);
        rows.extend(serving::rings(disk.path())?);
    }
    println!("| what | QBM | rival | figure | goal |\n|---|---|---|---|---|");
    for Row { what, ours, rival, figure, goal } in rows {
        println!("| {what} | {ours} | {rival} | {figure} | {goal} |");
    }
    Ok(ExitCode::SUCCESS)
}
