//! What marks cost a write: nothing when they are there, a share of a sync when they are not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use benches::counted::CountedDirectory;
use benches::{Comparison, compare, time};
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

/// An image without a bitmap in `directory`.
fn untracked<D: Directory + Clone>(directory: &D) -> anyhow::Result<Image<D>> {
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
        Ok(Image::open(directory.clone(), "marks.qbm", options, host).await?)
    })
}

/// An image with a bitmap in `directory`.
fn tracked<D: Directory + Clone>(directory: &D) -> anyhow::Result<Image<D>> {
    let image = untracked(directory)?;
    let add = BitmapAction::Add {
        name: "bench".to_owned(),
        granularity: Granularity::DEFAULT,
        disabled: false,
    };
    block_on(image.transaction(&[add]))?;
    Ok(image)
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// 4 KiB writes to marked granules, beside the same writes to an image without a bitmap, and to a file
/// without an image.
pub(crate) fn warm(place: &str, folder: &Path) -> anyhow::Result<[Row; 2]> {
    count_warm(folder)?;
    let folders = ["tracked", "untracked"].map(|name| folder.join(name));
    for folder in &folders {
        std::fs::create_dir(folder)?;
    }
    let image = tracked(&plain(&folders[0])?)?;
    let without = untracked(&plain(&folders[1])?)?;
    let path = folder.join("plain");
    std::fs::File::create(&path)?.set_len(SIZE)?;
    let file = StdFile::open_operator(&path, Access::Write)?;
    // Every granule is marked, and every block of each file is there.
    for offset in (0..SIZE).step_by(1 << 20) {
        let buffer = block_on(image.write(offset, Buffer::zeroed(1 << 20), Persist::Later))?;
        let buffer = block_on(without.write(offset, buffer, Persist::Later))?;
        block_on(file.write_at(offset, buffer, Persist::Later))?;
    }
    let beside_image = compare(ROUNDS, writes(&image)?, writes(&without)?)?;
    let plain_writes = round(|offset, buffer| file.write_at(offset, buffer, Persist::Later))?;
    let beside_file = compare(ROUNDS, writes(&image)?, plain_writes)?;
    block_on(image.close())?;
    block_on(without.close())?;
    for folder in &folders {
        std::fs::remove_dir_all(folder)?;
    }
    remove(folder)?;
    let row = |rival: &str, compared: &Comparison, goal| Row {
        what: format!("{WRITES} writes of 4 KiB to marked granules, {place}"),
        ours: compared.ours.to_string(),
        rival: format!("{rival}: {}", compared.theirs),
        figure: format!("{:.3} times; 0 more calls", compared.ratio),
        goal,
    };
    Ok([
        row("an image without a bitmap", &beside_image, "1.02; 0 more calls"),
        row("a file", &beside_file, "1.02; 0 more calls"),
    ])
}

/// Rounds of writes to `image`.
fn writes<D: Directory>(
    image: &Image<D>,
) -> anyhow::Result<impl FnMut() -> anyhow::Result<Duration>> {
    round(|offset, buffer| image.write(offset, buffer, Persist::Later))
}

/// Rounds of [`WRITES`] writes, which go on where the last one ended.
fn round<F, E>(
    write: impl Fn(u64, Buffer) -> F,
) -> anyhow::Result<impl FnMut() -> anyhow::Result<Duration>>
where
    F: Future<Output = Result<Buffer, E>>,
    anyhow::Error: From<E>,
{
    let block = usize::try_from(BLOCK)?;
    let mut offsets = offsets();
    Ok(move || {
        time(|| {
            let mut buffer = Buffer::zeroed(block);
            for offset in offsets.by_ref().take(WRITES) {
                buffer = block_on(write(offset, buffer))?;
            }
            Ok(())
        })
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
