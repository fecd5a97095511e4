//! An audit beside `cat` of the same disk.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use benches::{compare, make_disk, time};

use crate::Row;

const SIZE: u64 = 1 << 30;
/// Where a byte is changed behind QBM's back.
const PLACE: u64 = 700_000_000;

fn run(command: &mut Command, code: i32) -> anyhow::Result<()> {
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    ensure!(status.code() == Some(code), "{command:?}: {status}");
    Ok(())
}

/// The throughput of an audit of a disk that no mark excuses from being read.
pub(crate) fn row(place: &str, folder: &Path) -> anyhow::Result<Row> {
    let disk = make_disk(&folder.join("source.raw"), SIZE, 1 << 20)?;
    let qbm = std::env::current_exe()?.with_file_name("qbm");
    let in_folder =
        |words: &[&str], code: i32| run(Command::new(&qbm).current_dir(folder).args(words), code);
    in_folder(&["create", "--data-file", "source.raw", "source.qbm"], 0)?;
    in_folder(&["backup", "source.qbm", "points"], 0)?;
    let audit = ["audit", "source.qbm", "points"];
    let cat = || run(Command::new("cat").current_dir(folder).arg("source.raw"), 0);
    let comparison = compare(7, || time(|| in_folder(&audit, 0)), || time(cat))?;
    // The answer: with a byte changed, at a time that does not tell, it finds that a mark is missing.
    let modified = disk.metadata()?.modified()?;
    let mut byte = [0];
    disk.read_exact_at(&mut byte, PLACE)?;
    disk.write_all_at(&[!byte[0]], PLACE)?;
    disk.set_modified(modified)?;
    in_folder(&audit, 3)?;
    std::fs::remove_dir_all(folder.join("points"))?;
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(Row {
        what: format!("audit of 1 GiB of data in the page cache, {place}"),
        ours: comparison.ours.to_string(),
        rival: format!("cat: {}", comparison.theirs),
        figure: format!("{:.2} times", comparison.ratio),
        goal: "1.25 times",
    })
}
