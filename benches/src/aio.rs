//! Rings beside threads that block: random direct transfers of 4 KiB on a file.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use benches::{compare, time};
use fastrand::Rng;
use futures_executor::block_on;
use futures_util::future::try_join_all;
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_io_std::StdFile;
use qbm_io_uring::UringFile;
use rustix::fs::OFlags;

use crate::Row;

const BLOCK: u64 = 4096;
const BLOCKS: u64 = (64 << 20) / BLOCK;
/// Transfers of a round, for each of those in flight.
const EACH: usize = 100;

/// What is done, and how many at a time.
#[derive(Clone, Copy)]
struct Load {
    depth: usize,
    writes: bool,
}

/// Transfers one block after the other; each that is read has its number in it.
async fn transfer<F: Storage>(file: &F, load: Load, mut random: Rng) -> anyhow::Result<()> {
    let mut buffer = Buffer::zeroed(usize::try_from(BLOCK)?);
    for _ in 0..EACH {
        let block = random.u64(..BLOCKS);
        if load.writes {
            buffer[..8].copy_from_slice(&block.to_le_bytes());
            buffer = file.write_at(block * BLOCK, buffer, Persist::Later).await?;
        } else {
            buffer = file.read_at(block * BLOCK, buffer).await?;
            ensure!(buffer[..8] == block.to_le_bytes(), "block {block} holds another");
        }
    }
    Ok(())
}

/// By one thread with rings.
fn rings(file: &UringFile, load: Load, random: &mut Rng) -> anyhow::Result<Duration> {
    let all = (0..load.depth).map(|_| transfer(file, load, random.fork()));
    let all = all.collect::<Vec<_>>();
    time(|| block_on(try_join_all(all)).map(drop))
}

/// By as many threads as are in flight.
fn threads(file: &StdFile, load: Load, random: &mut Rng) -> anyhow::Result<Duration> {
    time(|| {
        thread::scope(|scope| {
            let each = |random| scope.spawn(move || block_on(transfer(file, load, random)));
            let all: Vec<_> = (0..load.depth).map(|_| each(random.fork())).collect();
            all.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })
    })
}

pub(crate) fn rows(place: &str, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let path = folder.join("direct.raw");
    File::create(&path)?.set_len(BLOCKS * BLOCK)?;
    let ours = UringFile::new(StdFile::open_operator(&path, Access::Write)?);
    ensure!(ours.is_direct(), "{} has no direct transfers", path.display());
    let direct = OFlags::DIRECT.bits().cast_signed();
    let theirs = File::options().read(true).write(true).custom_flags(direct).open(&path)?;
    let theirs = StdFile::from_file(theirs)?;
    let mut buffer = Buffer::zeroed(usize::try_from(BLOCK)?);
    for block in 0..BLOCKS {
        buffer[..8].copy_from_slice(&block.to_le_bytes());
        buffer = block_on(ours.write_at(block * BLOCK, buffer, Persist::Later))?;
    }
    let mut rows = Vec::new();
    for (depth, writes) in [(1, false), (1, true), (32, false), (32, true)] {
        let load = Load { depth, writes };
        let (mut one, mut other) = (Rng::with_seed(1), Rng::with_seed(1));
        let compared =
            compare(9, || rings(&ours, load, &mut one), || threads(&theirs, load, &mut other))?;
        let what = if writes { "writes" } else { "reads" };
        rows.push(Row {
            what: format!("{} direct {what} of 4 KiB, {depth} in flight, {place}", EACH * depth),
            ours: compared.ours.to_string(),
            rival: format!("threads: {}", compared.theirs),
            figure: format!("{:.2} times", compared.ratio),
            goal: "1",
        });
    }
    Ok(rows)
}
