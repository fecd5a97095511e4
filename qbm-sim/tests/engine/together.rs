//! Transactions of several images.

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::Arc;

use qbm_core::descriptor::Durability;
use qbm_core::image::{
    self, BitmapAction, CreateOptions, Fleece, NewPoint, OpenOptions, Outcome, commit_together,
};
use qbm_core::{Access, Buffer, Directory as _, Granularity, Id, Image, Persist};
use qbm_sim::{Disk, Executor, Fault, Kind, Medium, SimDirectory, SimFile, SimHost, run};

const SIZE: u64 = 4 * 512;

/// The images `a` and `b`, each with the bitmap `bitmap`.
async fn images(disk: &Disk) -> [Image<SimDirectory>; 2] {
    [open(disk, "a").await, open(disk, "b").await]
}

async fn open(disk: &Disk, name: &str) -> Image<SimDirectory> {
    let directory = SimDirectory::new(disk);
    let host = || SimHost::new(disk.calls() + 2);
    let (file, durability) = (format!("{name}.raw"), Durability::Exact);
    let options = CreateOptions { file, data: None, size: SIZE, durability };
    image::create(&directory, name, options, &host()).await.unwrap();
    let options = OpenOptions::new(Access::Write);
    let image = Image::open(directory, name, options, Arc::new(host())).await.unwrap();
    image.transaction(&[add("bitmap")]).await.unwrap();
    image
}

fn add(name: &str) -> BitmapAction {
    let (name, granularity, disabled) = (name.to_owned(), Granularity::MIN, false);
    BitmapAction::Add { name, granularity, disabled }
}

async fn new_point(space: &Disk, id: u64) -> NewPoint<SimFile> {
    let storage = SimDirectory::new(space).create(&format!("fleece{id}")).await.unwrap();
    let fleece = Some(Arc::new(Fleece::new(storage, SIZE)));
    NewPoint { bitmap: "bitmap".to_owned(), add: None, id: Id(id.into()), fleece }
}

/// What a guest writes to `b` when its write to `a` has returned is in no point without that. The other way
/// round, it writes to `a` only when its write to `b` has returned.
#[test]
fn points_of_several_images_are_of_one_instant() {
    let mut in_the_midst = 0;
    for seed in 0..300 {
        let (disk, space) = (Disk::new(Medium::new(), seed), Disk::immediate(Medium::new(), seed));
        let images = run(&disk, seed, images(&disk));
        let over = Cell::new(false);
        let mut executor = Executor::new(&[&disk], seed);
        executor.spawn("guest", async {
            for count in 1..200 {
                for image in &images {
                    let buffer = Buffer::from_slice(&[count; 512]);
                    image.write(0, buffer, Persist::Later).await.unwrap();
                }
                if over.get() {
                    return;
                }
            }
        });
        executor.spawn("operator", async {
            let mut parts = Vec::new();
            for (image, id) in images.iter().zip(1..) {
                let point = new_point(&space, id).await;
                parts.push(image.prepare_with_point(&[], point).await.unwrap());
            }
            let points = commit_together(parts).await.unwrap();
            over.set(true);
            let mut seen = Vec::new();
            for (image, point) in images.iter().zip(points) {
                let point = point.unwrap();
                let read = image.read_at_point(point.view(), 0, Buffer::zeroed(512)).await.unwrap();
                assert!(read.iter().all(|byte| *byte == read[0]), "torn");
                seen.push(read[0]);
                image.settle_point(point, Outcome::Stored).await.unwrap();
            }
            let [a, b] = seen[..] else { unreachable!("two images") };
            assert!(a == b || a == b + 1, "seed {seed}: {a} writes of one, {b} of the other");
            in_the_midst += usize::from(a > 0);
        });
        executor.finish();
    }
    assert!(in_the_midst > 100, "the guest has hardly written by then: {in_the_midst}");
}

/// The second of three media fails at the very last step: the first image has its part, but no point, and the
/// third has neither.
#[test]
fn where_a_last_step_fails_no_point_is_left_and_every_mark_is() {
    let (disk, space) = (Disk::new(Medium::new(), 1), Disk::immediate(Medium::new(), 2));
    run(&disk, 1, async {
        let [a, b] = images(&disk).await;
        let images = [a, b, open(&disk, "c").await];
        for image in &images {
            image.write(512, Buffer::from_slice(&[1; 512]), Persist::Later).await.unwrap();
        }
        let mut parts = Vec::new();
        for (image, id) in images.iter().zip(1..) {
            let point = new_point(&space, id).await;
            parts.push(image.prepare_with_point(&[add("more")], point).await.unwrap());
        }
        let error = ErrorKind::Other;
        disk.inject(Fault { kind: Some(Kind::Rename), after: 1, count: 1, error });
        let failed = commit_together(parts).await.unwrap_err();
        assert_eq!(failed.done, 1, "{}", failed.error);
        for (image, done) in images.iter().zip([true, false, false]) {
            assert_eq!(image.bitmaps().await.iter().any(|bitmap| bitmap.name == "more"), done);
            let bitmap = image.bitmaps().await.swap_remove(0);
            assert_eq!((bitmap.marked, bitmap.busy), (1, false));
            assert!(bitmap.points.iter().all(Option::is_none));
            // Nothing is held any more.
            image.write(0, Buffer::from_slice(&[2; 512]), Persist::Later).await.unwrap();
        }
    });
}
