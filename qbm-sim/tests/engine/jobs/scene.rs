//! A disk in use, and another of the same size.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use qbm_core::descriptor::{Durability, Format, ImageRef};
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions, OverlayOptions};
use qbm_core::job::JobControl;
use qbm_core::{Access, Buffer, Granularity, Host, Image, Persist, Result};
use qbm_sim::{Disk, Medium, SimDirectory, SimFile, SimHost, run};

/// Bytes of a granule, each of which holds one value.
pub(crate) const GRANULE: u64 = 512;
/// The same, of what is in memory.
pub(crate) const GRANULE_BYTES: usize = 512;
pub(crate) const GRANULES: usize = 12;
pub(crate) const SIZE: u64 = GRANULE * GRANULES as u64;
pub(crate) const SOURCE: &str = "source.qbm";
pub(crate) const TARGET: &str = "target.qbm";
/// What is behind them, if anything is, and what is between.
pub(crate) const BASE_IMAGE: &str = "base.qbm";
pub(crate) const MIDDLE: &str = "middle.qbm";
/// What a granule of the base, of the source, and of the target holds at first.
pub(crate) const BASE: u8 = 1;
pub(crate) const OWN: u8 = 2;
pub(crate) const OLD: u8 = 3;

fn host(seed: u64) -> Arc<dyn Host> {
    Arc::new(SimHost::new(seed))
}

pub(crate) async fn open(
    disk: &Disk,
    name: &str,
    access: Access,
    seed: u64,
) -> Result<Image<SimDirectory>> {
    open_with(disk, name, OpenOptions::new(access), seed).await
}

pub(crate) async fn open_with(
    disk: &Disk,
    name: &str,
    options: OpenOptions<SimFile>,
    seed: u64,
) -> Result<Image<SimDirectory>> {
    Image::open(SimDirectory::new(disk), name, options, host(seed)).await
}

/// Opens for writing what an overlay that is open has locked.
pub(crate) async fn open_locked(disk: &Disk, name: &str, seed: u64) -> Image<SimDirectory> {
    let options = OpenOptions { locked: true, ..OpenOptions::new(Access::Write) };
    open_with(disk, name, options, seed).await.unwrap()
}

pub(crate) async fn repair(disk: &Disk, name: &str, seed: u64) {
    image::repair(SimDirectory::new(disk), name, None, host(seed)).await.unwrap();
}

async fn create(disk: &Disk, name: &str) {
    let options = CreateOptions {
        file: name.replace("qbm", "raw"),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    image::create(&SimDirectory::new(disk), name, options, &*host(1)).await.unwrap();
}

pub(crate) async fn create_overlay(disk: &Disk, name: &str, backing: &str) {
    let options = OverlayOptions {
        file: name.replace("qbm", "raw"),
        backing: ImageRef { file: backing.to_owned(), format: Format::Qbm },
        cluster: Granularity::from_bytes(1024).unwrap(),
        size: None,
        durability: Durability::Exact,
    };
    image::create_overlay(&SimDirectory::new(disk), name, options, &*host(2)).await.unwrap();
}

async fn fill(image: &Image<SimDirectory>, granules: std::ops::Range<usize>, value: u8) {
    for granule in granules {
        image.write(granule as u64 * GRANULE, bytes(value), Persist::Later).await.unwrap();
    }
}

pub(crate) fn bytes(value: u8) -> Buffer {
    Buffer::from_slice(&[value; GRANULE_BYTES])
}

async fn add_bitmap(image: &Image<SimDirectory>) {
    let (name, granularity) = ("b".to_owned(), Granularity::MIN);
    image.transaction(&[BitmapAction::Add { name, granularity, disabled: false }]).await.unwrap();
}

/// A base, a source over it that is an overlay or not, and a target of other contents, or an overlay
/// over the base. Source and target have a bitmap that has seen nothing yet.
pub(crate) fn scene(overlay: bool, target_over_base: bool) -> Medium {
    let disk = Disk::immediate(Medium::new(), 1);
    run(&disk, 1, async {
        create(&disk, BASE_IMAGE).await;
        let base = open(&disk, BASE_IMAGE, Access::Write, 3).await.unwrap();
        fill(&base, 0..8, BASE).await;
        base.close().await.unwrap();
        if overlay {
            create_overlay(&disk, SOURCE, BASE_IMAGE).await;
        } else {
            create(&disk, SOURCE).await;
        }
        let source = open(&disk, SOURCE, Access::Write, 4).await.unwrap();
        fill(&source, 2..5, OWN).await;
        add_bitmap(&source).await;
        source.close().await.unwrap();
        if target_over_base {
            create_overlay(&disk, TARGET, BASE_IMAGE).await;
        } else {
            create(&disk, TARGET).await;
        }
        let target = open(&disk, TARGET, Access::Write, 5).await.unwrap();
        if !target_over_base {
            fill(&target, 0..GRANULES, OLD).await;
        }
        add_bitmap(&target).await;
        target.close().await.unwrap();
    });
    disk.snapshot()
}

/// How deep the base of a [`chain`] is, from 0 at the top.
pub(crate) const DEPTH: usize = 2;

/// A base, an overlay over it, and the source over that, each with a bitmap that has seen nothing yet.
pub(crate) fn chain() -> Medium {
    let disk = Disk::immediate(Medium::new(), 1);
    run(&disk, 1, async {
        create(&disk, BASE_IMAGE).await;
        let own = [(BASE_IMAGE, 0..8, BASE), (MIDDLE, 3..10, OLD), (SOURCE, 2..5, OWN)];
        for (index, (name, granules, value)) in own.into_iter().enumerate() {
            if index > 0 {
                create_overlay(&disk, name, if index == 1 { BASE_IMAGE } else { MIDDLE }).await;
            }
            let image = open(&disk, name, Access::Write, 3 + index as u64).await.unwrap();
            fill(&image, granules, value).await;
            add_bitmap(&image).await;
            image.close().await.unwrap();
        }
    });
    disk.snapshot()
}

/// The value of every byte of the disk.
pub(crate) async fn contents(image: &Image<SimDirectory>) -> Vec<u8> {
    let length = usize::try_from(image.size()).unwrap();
    image.read(0, Buffer::zeroed(length)).await.unwrap().to_vec()
}

/// The value of each granule, which holds no other.
pub(crate) async fn granules(image: &Image<SimDirectory>) -> Vec<u8> {
    let contents = contents(image).await;
    let value = |granule: &[u8]| {
        assert!(granule.iter().all(|byte| *byte == granule[0]), "a granule holds two values");
        granule[0]
    };
    contents.chunks(GRANULE_BYTES).map(value).collect()
}

/// Lets time go by until `over`.
pub(crate) async fn clock(control: &JobControl, over: &Cell<bool>) {
    let mut now = Duration::ZERO;
    while !over.get() {
        now += Duration::from_millis(100);
        control.pass(now);
        turn().await;
    }
}

/// Lets others run.
pub(crate) async fn turn() {
    let mut polled = false;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
