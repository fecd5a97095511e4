//! A full backup beside `qemu-img convert` of the same sparse disk, and the memory of the verbs.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use benches::{compare, make_disk, time};
use wait4::Wait4;

use crate::Row;

const SIZE: u64 = 1 << 30;

/// Runs `command`; returns the most memory that it had, in bytes.
fn run(command: &mut Command) -> anyhow::Result<u64> {
    let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
    let ended = child.wait4()?;
    ensure!(ended.status.success(), "{command:?}: {}", ended.status);
    Ok(ended.rusage.maxrss)
}

/// Runs every verb that reads a whole disk, on the point in `folder`; returns the most memory that
/// one of them had, in bytes.
fn run_verbs(qbm: &Path, folder: &Path) -> anyhow::Result<u64> {
    let verbs: [&[&str]; 6] = [
        &["backup", "source.qbm", "points"],
        &["verify", "points"],
        &["restore", "points", "restored.raw"],
        &["compare", "-F", "raw", "source.qbm", "source.raw"],
        &["map", "source.qbm"],
        &["check", "source.qbm"],
    ];
    let run = |verb: &&[&str]| run(Command::new(qbm).current_dir(folder).args(*verb));
    let peaks: Vec<u64> = verbs.iter().map(run).collect::<anyhow::Result<_>>()?;
    Ok(peaks.into_iter().max().unwrap_or(0))
}

pub(crate) fn row(place: &str, folder: &Path) -> anyhow::Result<Row> {
    let disk = folder.join("source.raw");
    // Half of it has data.
    make_disk(&disk, SIZE, 2 << 20)?;
    let qbm = std::env::current_exe()?.with_file_name("qbm");
    let in_folder = || {
        let mut command = Command::new(&qbm);
        command.current_dir(folder);
        command
    };
    run(in_folder().args(["create", "--data-file", "source.raw", "source.qbm"]))?;
    let points = folder.join("points");
    let copy = folder.join("copy.raw");
    let mut peak = 0;
    let ours = || {
        if points.exists() {
            std::fs::remove_dir_all(&points)?;
        }
        let backup = ["backup", "--full", "source.qbm", "points"];
        time(|| {
            peak = peak.max(run(in_folder().args(backup))?);
            Ok(())
        })
    };
    let theirs = || {
        if copy.exists() {
            std::fs::remove_file(&copy)?;
        }
        // Flushed at its end, as a backup is.
        let arguments = ["convert", "-t", "writeback", "-f", "raw", "-O", "raw"];
        time(|| run(Command::new("qemu-img").args(arguments).args([&disk, &copy])).map(drop))
    };
    let comparison = compare(7, ours, theirs)?;
    peak = peak.max(run_verbs(&qbm, folder)?);
    run(Command::new("cmp").args([&disk, &folder.join("restored.raw")]))?;
    run(Command::new("cmp").args([&disk, &copy]))?;
    ensure!(peak <= 64 << 20, "a verb took {peak} bytes of memory");
    std::fs::remove_dir_all(&points)?;
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(Row {
        what: format!("full backup of 1 GiB with 512 MiB of data, {place}"),
        ours: comparison.ours.to_string(),
        rival: format!("qemu-img convert: {}", comparison.theirs),
        figure: format!("{:.2} times; {} MiB in any verb", comparison.ratio, peak >> 20),
        goal: "1.3 times; 64 MiB",
    })
}
