//! Bitmaps that are in memory only, and the way from there to the descriptor and back.

use std::cell::Cell;
use std::sync::Arc;

use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions, Persistence};
use qbm_core::{Access, Buffer, Error, Granularity, Id, Image, Persist, Result};
use qbm_sim::{Disk, Executor, Grain, Harms, Loss, Medium, SimDirectory, SimHost, Step, run};

const GRANULES: u64 = 16;
const SIZE: u64 = GRANULES * 512;

/// A closed image without bitmaps.
fn image() -> Disk {
    let disk = Disk::new(Medium::new(), 1);
    run(&disk, 1, async {
        let durability = Durability::Exact;
        let options =
            CreateOptions { file: "d.raw".to_owned(), data: None, size: SIZE, durability };
        image::create(&SimDirectory::new(&disk), "i.qbm", options, &SimHost::new(1)).await.unwrap();
    });
    disk
}

async fn open(disk: &Disk) -> Image<SimDirectory> {
    let (options, host) = (OpenOptions::new(Access::Write), SimHost::new(disk.calls() + 2));
    Image::open(SimDirectory::new(disk), "i.qbm", options, Arc::new(host)).await.unwrap()
}

fn add(name: &str, persistence: Persistence) -> BitmapAction {
    let (name, granularity, disabled) = (name.to_owned(), Granularity::MIN, false);
    match persistence {
        Persistence::Persistent => BitmapAction::Add { name, granularity, disabled },
        Persistence::InMemory => BitmapAction::AddInMemory { name, granularity, disabled },
    }
}

fn set(name: &str, persistence: Persistence) -> BitmapAction {
    BitmapAction::SetPersistence { name: name.to_owned(), persistence }
}

async fn write(image: &Image<SimDirectory>, granule: u64) {
    let buffer = Buffer::from_slice(&[7; 512]);
    image.write(granule * 512, buffer, Persist::Later).await.unwrap();
}

async fn marks(image: &Image<SimDirectory>, name: &str) -> Result<Vec<u64>> {
    Ok(image.bitmap_bits(name).await?.areas().flatten().collect())
}

fn other(persistence: Persistence) -> Persistence {
    match persistence {
        Persistence::Persistent => Persistence::InMemory,
        Persistence::InMemory => Persistence::Persistent,
    }
}

/// Cuts the power at each step of a change to `persistence` with guest writes around and beside it; calls
/// `check` with whether the change was acknowledged, the marks found, if the bitmap is there, and the
/// granules whose data is.
fn cut_everywhere(persistence: Persistence, check: impl Fn(bool, Option<&[u64]>, &[u64])) {
    let mut cuts = 0;
    for seed in 0..12 {
        let disk = image();
        let opened = run(&disk, seed, async {
            let image = open(&disk).await;
            image.transaction(&[add("b", other(persistence))]).await.unwrap();
            write(&image, 1).await;
            write(&image, 9).await;
            image
        });
        let (image, acknowledged) = (&opened, &Cell::new(false));
        let mut executor = Executor::new(&[&disk], seed);
        executor.spawn("operator", async move {
            image.transaction(&[set("b", persistence)]).await.unwrap();
            acknowledged.set(true);
        });
        executor.spawn("guest", async move {
            for granule in 2..8 {
                write(image, granule).await;
            }
            image.flush().await.unwrap();
        });
        let mut rng = fastrand::Rng::with_seed(seed);
        loop {
            let losses = [Loss::Everything, Loss::Nothing, Loss::Torn(Grain::Byte)];
            for loss in losses {
                let cut = disk.snapshot().power_loss(loss, &mut rng, &mut Harms::default());
                let data = cut.read("d.raw").unwrap().chunks(512).zip(0..);
                let written: Vec<u64> = data
                    .filter(|(bytes, _)| bytes.contains(&7))
                    .map(|(_, granule)| granule)
                    .collect();
                let recovered = Disk::immediate(cut, seed);
                let found = run(&recovered, seed, async {
                    let image = open(&recovered).await;
                    marks(&image, "b").await.ok()
                });
                check(acknowledged.get(), found.as_deref(), &written);
                cuts += 1;
            }
            if executor.step() == Step::Finished {
                break;
            }
        }
        assert!(acknowledged.get());
    }
    assert!(cuts > 1000, "too few cuts to mean anything: {cuts}");
}

/// From the reply on it is there, and whenever it is there it has every mark.
#[test]
fn a_bitmap_made_persistent_has_every_mark_wherever_the_power_is_cut() {
    cut_everywhere(Persistence::Persistent, |acknowledged, found, written| {
        assert!(found.is_some() || !acknowledged, "acknowledged, and gone");
        if let Some(marks) = found {
            assert!(written.iter().all(|granule| marks.contains(granule)), "{written:?} {marks:?}");
            assert!(!acknowledged || (marks.contains(&1) && marks.contains(&9)), "{marks:?}");
        }
    });
}

/// Until it is gone it has every mark, and from the reply on it is gone.
#[test]
fn a_bitmap_made_persistent_no_more_is_right_or_gone_wherever_the_power_is_cut() {
    cut_everywhere(Persistence::InMemory, |acknowledged, found, written| {
        assert!(found.is_none() || !acknowledged, "it was to be in memory only");
        if let Some(marks) = found {
            assert!(written.iter().all(|granule| marks.contains(granule)), "{written:?} {marks:?}");
        }
    });
}

#[test]
fn a_bitmap_in_memory_costs_a_write_nothing_and_is_gone_after_the_close() {
    let disk = image();
    run(&disk, 2, async {
        let image = open(&disk).await;
        image.transaction(&[add("b", Persistence::InMemory)]).await.unwrap();
        let before = disk.calls();
        write(&image, 3).await;
        assert_eq!(disk.calls() - before, 1, "its data");
        assert_eq!(marks(&image, "b").await.unwrap(), [3]);
        assert!(!image.bitmaps().await[0].persistent);
        image.resize(SIZE + 512).await.unwrap();
        assert_eq!(marks(&image, "b").await.unwrap(), [3, GRANULES], "what is new is marked");
        image.transaction(&[BitmapAction::Clear("b".to_owned())]).await.unwrap();
        write(&image, 4).await;
        image.close().await.unwrap();
        let image = open(&disk).await;
        assert!(image.bitmaps().await.is_empty());
        image.close().await.unwrap();
    });
    assert!(!disk.snapshot().names().any(|name| name.ends_with(".bits")), "no file is left");
}

#[test]
fn marks_go_with_a_bitmap_both_ways_and_to_others() {
    let disk = image();
    run(&disk, 3, async {
        let image = open(&disk).await;
        image
            .transaction(&[add("a", Persistence::InMemory), add("b", Persistence::Persistent)])
            .await
            .unwrap();
        write(&image, 3).await;
        image.transaction(&[BitmapAction::Clear("b".to_owned())]).await.unwrap();
        write(&image, 5).await;
        let merge = BitmapAction::Merge { target: "a".to_owned(), source: "b".to_owned() };
        let both = [merge, set("a", Persistence::Persistent), set("b", Persistence::InMemory)];
        image.transaction(&both).await.unwrap();
        // It is that already.
        image.transaction(&[set("a", Persistence::Persistent)]).await.unwrap();
        write(&image, 7).await;
        assert_eq!(marks(&image, "b").await.unwrap(), [5, 7]);
        image.close().await.unwrap();
        let image = open(&disk).await;
        assert_eq!(marks(&image, "a").await.unwrap(), [3, 5, 7]);
        assert!(matches!(marks(&image, "b").await, Err(Error::BitmapNotFound(_))));
        image.close().await.unwrap();
    });
}

#[test]
fn a_point_is_of_a_persistent_bitmap_only() {
    let disk = image();
    run(&disk, 4, async {
        let image = open(&disk).await;
        image.transaction(&[add("b", Persistence::InMemory)]).await.unwrap();
        let refused = image.begin_point("b", Id(1)).await.map(drop).unwrap_err().to_string();
        assert_eq!(refused, "i.qbm: bitmap 'b' is not persistent, and a point is of one that is");
        image.transaction(&[set("b", Persistence::Persistent)]).await.unwrap();
        let point = image.begin_point("b", Id(1)).await.unwrap();
        let busy = image.transaction(&[set("b", Persistence::InMemory)]).await.unwrap_err();
        assert!(matches!(busy, Error::BitmapBusy(_)), "{busy}");
        image.settle_point(point, image::Outcome::Abandoned).await.unwrap();
        image.close().await.unwrap();
    });
}

/// A crash leaves nothing of them, so nothing has to be on the medium.
#[test]
fn what_is_done_to_bitmaps_in_memory_alone_does_not_touch_the_medium() {
    let disk = image();
    run(&disk, 6, async {
        let image = open(&disk).await;
        image.transaction(&[add("b", Persistence::InMemory)]).await.unwrap();
        write(&image, 3).await;
        let calls = disk.calls();
        let name = || "b".to_owned();
        let [disable, enable] = [BitmapAction::Disable(name()), BitmapAction::Enable(name())];
        let (source, target) = (name(), "c".to_owned());
        let merge = BitmapAction::Merge { source, target };
        let actions = [add("c", Persistence::InMemory), merge, BitmapAction::Clear(name())];
        image.transaction(&actions).await.unwrap();
        image.transaction(&[disable, enable, BitmapAction::Remove(name())]).await.unwrap();
        assert_eq!(disk.calls(), calls);
        assert_eq!(marks(&image, "c").await.unwrap(), [3]);
        image.transaction(&[set("c", Persistence::Persistent)]).await.unwrap();
        assert!(disk.calls() > calls);
        image.close().await.unwrap();
    });
}

/// As a transaction of several images needs it: what one refuses is done nowhere.
#[test]
fn what_is_prepared_and_given_up_leaves_nothing() {
    let disk = image();
    run(&disk, 5, async {
        let image = open(&disk).await;
        let before: Vec<String> = disk.snapshot().names().map(str::to_owned).collect();
        let prepared = image.prepare_transaction(&[add("b", Persistence::Persistent)]).await;
        let prepared = prepared.unwrap();
        write(&image, 3).await;
        prepared.give_up().await;
        assert!(image.bitmaps().await.is_empty());
        assert!(disk.snapshot().names().eq(before.iter().map(String::as_str)));
        let prepared = image.prepare_transaction(&[add("b", Persistence::Persistent)]).await;
        let prepared = prepared.unwrap();
        write(&image, 5).await;
        prepared.commit().await.unwrap();
        assert_eq!(marks(&image, "b").await.unwrap(), [5]);
        image.close().await.unwrap();
    });
}
