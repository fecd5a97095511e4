//! What marks cost a write: nothing when they are there, a share of a sync when they are not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::ensure;
use benches::counted::{CountedDirectory, Counts};
use benches::{compare, time};
use futures_executor::block_on;
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, Granularity, Host, Image, Persist, Storage};
use qbm_io_std::{GatePolicy, StdDirectory, StdFile, StdHost};

use crate::Row;

const SIZE: u64 = 256 << 20;
const BLOCK: u64 = 4096;
const WRITES: u64 = 50_000;
const DATA: &str = "marks.raw";

fn tracked(folder: &Path) -> anyhow::Result<(Image<CountedDirectory>, Arc<Counts>)> {
    let inner = StdDirectory::open(folder, GatePolicy::closed())?;
    let (directory, counts) = CountedDirectory::new(inner, DATA);
    let host: Arc<dyn Host> = Arc::new(StdHost);
    let options = CreateOptions {
        file: DATA.to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    let image = block_on(async {
        image::create(&directory, "marks.qbm", options, &*host).await?;
        let options = OpenOptions::new(Access::Write);
        let image = Image::open(directory, "marks.qbm", options, host).await?;
        let add = BitmapAction::Add {
            name: "bench".to_owned(),
            granularity: Granularity::DEFAULT,
            disabled: false,
        };
        image.transaction(&[add]).await?;
        anyhow::Ok(image)
    })?;
    Ok((image, counts))
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// 4 KiB writes to marked granules, beside the same writes without tracking.
pub(crate) fn warm(place: &str, folder: &Path) -> anyhow::Result<Row> {
    let (image, counts) = tracked(folder)?;
    // Every granule is marked, and every block of both files is there.
    let path = folder.join("plain");
    std::fs::File::create(&path)?.set_len(SIZE)?;
    let plain = StdFile::open_operator(&path, Access::Write)?;
    for offset in (0..SIZE).step_by(1 << 20) {
        let buffer = block_on(image.write(offset, Buffer::zeroed(1 << 20), Persist::Later))?;
        block_on(plain.write_at(offset, buffer, Persist::Later))?;
    }
    let offsets =
        || (0..WRITES).map(|index| index.wrapping_mul(0x9e37_79b9) % (SIZE / BLOCK) * BLOCK);
    let block = usize::try_from(BLOCK)?;
    counts.others.store(0, Ordering::Relaxed);
    counts.data.store(0, Ordering::Relaxed);
    let ours = || {
        time(|| {
            let mut buffer = Buffer::zeroed(block);
            for offset in offsets() {
                buffer = block_on(image.write(offset, buffer, Persist::Later))?;
            }
            Ok(())
        })
    };
    let theirs = || {
        time(|| {
            let mut buffer = Buffer::zeroed(block);
            for offset in offsets() {
                buffer = block_on(plain.write_at(offset, buffer, Persist::Later))?;
            }
            Ok(())
        })
    };
    let comparison = compare(ours, theirs)?;
    let calls = counts.data.load(Ordering::Relaxed);
    let written = WRITES * (benches::ROUNDS as u64 + 1);
    ensure!(calls == written, "{calls} calls to the data image for {written} writes");
    let others = counts.others.load(Ordering::Relaxed);
    ensure!(others == 0, "{others} calls to the bitmap for writes to marked granules");
    block_on(image.close())?;
    remove(folder)?;
    Ok(Row {
        what: format!("{WRITES} writes of 4 KiB to marked granules, {place}"),
        ours: comparison.ours.to_string(),
        rival: format!("untracked: {}", comparison.theirs),
        figure: format!("{:.3} times; 0 more calls", comparison.ratio()),
        goal: "1.02; 0 more calls",
    })
}

/// 32 writers on clean granules: how many syncs a new granule costs.
pub(crate) fn cold(folder: &Path) -> anyhow::Result<Row> {
    const WRITERS: u64 = 32;
    let (image, counts) = tracked(folder)?;
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
