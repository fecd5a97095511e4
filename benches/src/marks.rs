//! What marks cost a write: nothing when they are there, a share of a sync when they are not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::ensure;
use benches::counted::CountedDirectory;
use benches::{compare, time};
use futures_executor::block_on;
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, Directory, Granularity, Host, Image, Persist, Storage};
use qbm_io_std::{GatePolicy, StdDirectory, StdFile, StdHost};

use crate::Row;

const SIZE: u64 = 256 << 20;
const BLOCK: u64 = 4096;
/// Writes of a round: over so soon that what troubles the machine seldom falls into one side alone.
const WRITES: usize = 1000;
const ROUNDS: usize = 501;
const DATA: &str = "marks.raw";

fn plain(folder: &Path) -> anyhow::Result<StdDirectory> {
    Ok(StdDirectory::open(folder, GatePolicy::closed())?)
}

/// An image with a bitmap in `directory`.
fn tracked<D: Directory + Clone>(directory: &D) -> anyhow::Result<Image<D>> {
    let host: Arc<dyn Host> = Arc::new(StdHost);
    let options = CreateOptions {
        file: DATA.to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    block_on(async {
        image::create(directory, "marks.qbm", options, &*host).await?;
        let options = OpenOptions::new(Access::Write);
        let image = Image::open(directory.clone(), "marks.qbm", options, host).await?;
        let add = BitmapAction::Add {
            name: "bench".to_owned(),
            granularity: Granularity::DEFAULT,
            disabled: false,
        };
        image.transaction(&[add]).await?;
        Ok(image)
    })
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// 4 KiB writes to marked granules, beside the same writes without tracking.
pub(crate) fn warm(place: &str, folder: &Path) -> anyhow::Result<Row> {
    count_warm(folder)?;
    let image = tracked(&plain(folder)?)?;
    // Every granule is marked, and every block of both files is there.
    let path = folder.join("plain");
    std::fs::File::create(&path)?.set_len(SIZE)?;
    let untracked = StdFile::open_operator(&path, Access::Write)?;
    for offset in (0..SIZE).step_by(1 << 20) {
        let buffer = block_on(image.write(offset, Buffer::zeroed(1 << 20), Persist::Later))?;
        block_on(untracked.write_at(offset, buffer, Persist::Later))?;
    }
    let block = usize::try_from(BLOCK)?;
    let (mut our_offsets, mut their_offsets) = (offsets(), offsets());
    let ours = || {
        time(|| {
            let mut buffer = Buffer::zeroed(block);
            for offset in our_offsets.by_ref().take(WRITES) {
                buffer = block_on(image.write(offset, buffer, Persist::Later))?;
            }
            Ok(())
        })
    };
    let theirs = || {
        time(|| {
            let mut buffer = Buffer::zeroed(block);
            for offset in their_offsets.by_ref().take(WRITES) {
                buffer = block_on(untracked.write_at(offset, buffer, Persist::Later))?;
            }
            Ok(())
        })
    };
    let comparison = compare(ROUNDS, ours, theirs)?;
    block_on(image.close())?;
    remove(folder)?;
    Ok(Row {
        what: format!("{WRITES} writes of 4 KiB to marked granules, {place}"),
        ours: comparison.ours.to_string(),
        rival: format!("untracked: {}", comparison.theirs),
        figure: format!("{:.3} times; 0 more calls", comparison.ratio),
        goal: "1.02; 0 more calls",
    })
}

/// Where a side writes, one after the other: 40 MiB in no order, again and again.
fn offsets() -> impl Iterator<Item = u64> {
    let once = (0..10_000_u64).map(|index| index.wrapping_mul(0x9e37_79b9));
    once.map(|hash| hash % (SIZE / BLOCK) * BLOCK).cycle()
}

/// Counts what a write to a marked granule asks of storage: the write of its data, and no more.
fn count_warm(folder: &Path) -> anyhow::Result<()> {
    let (directory, counts) = CountedDirectory::new(plain(folder)?, DATA);
    let image = tracked(&directory)?;
    let mut buffer = block_on(image.write(0, Buffer::zeroed(4096), Persist::Later))?;
    counts.data.store(0, Ordering::Relaxed);
    counts.others.store(0, Ordering::Relaxed);
    for block in 0..Granularity::DEFAULT.bytes() / BLOCK {
        buffer = block_on(image.write(block * BLOCK, buffer, Persist::Later))?;
    }
    let (data, others) =
        (counts.data.load(Ordering::Relaxed), counts.others.load(Ordering::Relaxed));
    ensure!(data == 16, "{data} calls to the data image for 16 writes");
    ensure!(others == 0, "{others} calls to the bitmap for writes to marked granules");
    block_on(image.close())?;
    remove(folder)
}

/// 32 writers on clean granules: how many syncs a new granule costs.
pub(crate) fn cold(folder: &Path) -> anyhow::Result<Row> {
    const WRITERS: u64 = 32;
    let (directory, counts) = CountedDirectory::new(plain(folder)?, DATA);
    let image = tracked(&directory)?;
    let granules = SIZE / Granularity::DEFAULT.bytes();
    counts.syncs.store(0, Ordering::Relaxed);
    let write = |writer: u64| {
        for granule in (writer..granules).step_by(usize::try_from(WRITERS)?) {
            let offset = granule * Granularity::DEFAULT.bytes();
            block_on(image.write(offset, Buffer::zeroed(4096), Persist::Later))?;
        }
        anyhow::Ok(())
    };
    let write = &write;
    let took = time(|| {
        std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("a writer"))
        })
    })?;
    let syncs = counts.syncs.load(Ordering::Relaxed);
    let bits = block_on(image.bitmap_bits("bench"))?;
    ensure!(bits.count() == granules, "{} of {granules} granules are marked", bits.count());
    ensure!(syncs * 10 <= granules, "{syncs} syncs for {granules} new granules");
    block_on(image.close())?;
    remove(folder)?;
    Ok(Row {
        what: format!("32 writers on {granules} clean granules, disk"),
        ours: format!("{:.1} ms", took.as_secs_f64() * 1e3),
        rival: String::new(),
        figure: format!("{syncs} syncs for {granules} granules"),
        goal: "at most 0.1 a granule",
    })
}
