//! A full backup beside `qemu-img convert` of the same sparse disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use benches::{compare, time};
use nix::sys::resource::{UsageWho, getrusage};

use crate::Row;

const SIZE: u64 = 1 << 30;

/// Half of the disk has data, in pieces of 1 MiB.
fn make_disk(path: &Path) -> anyhow::Result<()> {
    let file = File::create(path)?;
    file.set_len(SIZE)?;
    let mut piece = vec![0_u8; 1 << 20];
    let mut state = 1_u64;
    for offset in (0..SIZE).step_by(2 << 20) {
        for byte in piece.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            byte.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all_at(&piece, offset)?;
    }
    file.sync_all()?;
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub(crate) fn row(place: &str, folder: &Path) -> anyhow::Result<Row> {
    let disk = folder.join("source.raw");
    make_disk(&disk)?;
    let qbm = std::env::current_exe()?.with_file_name("qbm");
    let in_folder = || {
        let mut command = Command::new(&qbm);
        command.current_dir(folder);
        command
    };
    run(in_folder().args(["create", "--data-file", "source.raw", "source.qbm"]))?;
    let points = folder.join("points");
    let copy = folder.join("copy.raw");
    let ours = || {
        if points.exists() {
            std::fs::remove_dir_all(&points)?;
        }
        time(|| run(in_folder().args(["backup", "--full", "source.qbm", "points"])))
    };
    ours()?;
    // Of all children so far, of which this is the largest.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    let theirs = || {
        if copy.exists() {
            std::fs::remove_file(&copy)?;
        }
        // Flushed at its end, as a backup is.
        let arguments = ["convert", "-t", "writeback", "-f", "raw", "-O", "raw"];
        time(|| run(Command::new("qemu-img").args(arguments).args([&disk, &copy])))
    };
    let comparison = compare(ours, theirs)?;
    run(in_folder().args(["restore", "points", "restored.raw"]))?;
    run(Command::new("cmp").args([&disk, &folder.join("restored.raw")]))?;
    run(Command::new("cmp").args([&disk, &copy]))?;
    ensure!(peak <= 64 << 10, "a backup took {peak} KiB of memory");
    std::fs::remove_dir_all(&points)?;
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(Row {
        what: format!("full backup of 1 GiB with 512 MiB of data, {place}"),
        ours: comparison.ours.to_string(),
        rival: format!("qemu-img convert: {}", comparison.theirs),
        figure: format!("{:.2} times; {} MiB at most", comparison.ratio(), peak >> 10),
        goal: "1.3 times; 64 MiB",
    })
}
