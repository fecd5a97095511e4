//! Opening a disk of 16 TiB with a full bitmap: how long it takes, and how much memory.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use futures_executor::block_on;
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, ByteRange, Granularity, Host, Image, Unmap};
use qbm_io_std::{GatePolicy, StdDirectory, StdHost};

use crate::Row;

/// 16 TiB but for a granule, which is as much as ext4 can hold.
const SIZE: u64 = (16 << 40) - (64 << 10);
const GRANULES: u64 = SIZE >> 16;

fn open(folder: &Path) -> anyhow::Result<Image<StdDirectory>> {
    let directory = StdDirectory::open(folder, GatePolicy::closed())?;
    let options = OpenOptions::new(Access::Write);
    Ok(block_on(Image::open(directory, "large.qbm", options, Arc::new(StdHost)))?)
}

/// An image of which every granule is marked, closed.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    let directory = StdDirectory::open(folder, GatePolicy::closed())?;
    let host: Arc<dyn Host> = Arc::new(StdHost);
    let options = CreateOptions {
        file: "large.raw".to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    block_on(image::create(&directory, "large.qbm", options, &*host))?;
    let image = open(folder)?;
    let add = BitmapAction::Add {
        name: "full".to_owned(),
        granularity: Granularity::DEFAULT,
        disabled: false,
    };
    block_on(image.transaction(&[add]))?;
    block_on(image.write_zeroes(ByteRange::new(0, SIZE), Unmap::Allowed))?;
    block_on(image.close())?;
    Ok(())
}

/// Opens the image of `folder`, says how long that took and how much memory it has, and ends
/// without closing it, which is a crash.
pub(crate) fn child(folder: &Path) -> anyhow::Result<()> {
    let before = memory()?;
    let begun = Instant::now();
    let image = open(folder)?;
    let took = begun.elapsed().as_millis();
    let used = memory()?.saturating_sub(before);
    let marked = block_on(image.bitmaps())[0].marked;
    ensure!(marked == GRANULES, "{marked} of {GRANULES} granules are marked");
    println!("{took} {used}");
    Ok(())
}

/// Resident memory of this process, in bytes.
fn memory() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes = line.split_whitespace().nth(1).context("no number")?;
    Ok(kilobytes.parse::<u64>()? << 10)
}

pub(crate) fn rows(folder: &Path) -> anyhow::Result<Vec<Row>> {
    prepare(folder)?;
    let mut rows = Vec::new();
    let cases = [("a clean close", "100 ms"), ("a crash", "1 s"), ("a second crash", "1 s")];
    for (after, goal) in cases {
        let output = Command::new(std::env::current_exe()?).arg("--open").arg(folder).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout)?;
        let (took, used) = said.trim().split_once(' ').context("two numbers")?;
        let used: u64 = used.parse()?;
        ensure!(used * 80 <= GRANULES * 22, "{used} bytes for {GRANULES} granules");
        let hundredths = used * 800 / GRANULES;
        rows.push(Row {
            what: format!("opening 16 TiB with a full bitmap after {after}, disk"),
            ours: format!("{took} ms"),
            rival: String::new(),
            figure: format!("{}.{:02} bits a granule", hundredths / 100, hundredths % 100),
            goal,
        });
    }
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(rows)
}
