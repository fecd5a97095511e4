//! What an image says a bitmap marks of a range, while one segment records and while two do.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, ByteRange, Error, Granularity, Id, Image, Persist};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

const SIZE: u64 = 10_000;

/// An open image of 10,000 bytes with the bitmap `b`, a granule of 512 bytes each.
async fn image(disk: &Disk) -> Image<SimDirectory> {
    let directory = SimDirectory::new(disk);
    let options = CreateOptions {
        file: "d.raw".to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    image::create(&directory, "i.qbm", options, &SimHost::new(7)).await.unwrap();
    let host = Arc::new(SimHost::new(8));
    let options = OpenOptions::new(Access::Write);
    let image = Image::open(directory, "i.qbm", options, host).await.unwrap();
    let add =
        BitmapAction::Add { name: "b".to_owned(), granularity: Granularity::MIN, disabled: false };
    image.transaction(&[add]).await.unwrap();
    image
}

async fn write(image: &Image<SimDirectory>, offset: u64, length: usize) {
    image.write(offset, Buffer::zeroed(length), Persist::Later).await.unwrap();
}

async fn extents(image: &Image<SimDirectory>, start: u64, length: u64) -> Vec<(u64, bool)> {
    let range = ByteRange::new(start, length);
    let extents = image.marked_extents("b", range, usize::MAX).await.unwrap();
    extents.iter().map(|extent| (extent.length, extent.marked)).collect()
}

#[test]
fn extents_are_the_granules_written_cut_at_the_range() {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let image = image(&disk).await;
        assert_eq!(extents(&image, 0, SIZE).await, [(SIZE, false)]);
        write(&image, 600, 1).await;
        write(&image, 1024, 512).await;
        write(&image, 9_999, 1).await;
        let all = [(512, false), (1024, true), (8_192, false), (272, true)];
        assert_eq!(extents(&image, 0, SIZE).await, all);
        assert_eq!(extents(&image, 700, 1).await, [(1, true)]);
        assert_eq!(extents(&image, 500, 100).await, [(12, false), (88, true)]);
        let one = image.marked_extents("b", ByteRange::new(0, SIZE), 1).await.unwrap();
        assert_eq!(one.len(), 1);
        assert!(image.is_free(ByteRange::new(600, 900)));
        assert!(!image.is_free(ByteRange::new(600, 937)));
    });
}

/// While a point is taken a bitmap has two segments, and marks what either has.
#[test]
fn extents_are_those_of_all_segments_together() {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let image = image(&disk).await;
        write(&image, 0, 1).await;
        let point = image.begin_point("b", Id(1)).await.unwrap();
        write(&image, 512, 1).await;
        write(&image, 2048, 1).await;
        let expected = [(1024, true), (1024, false), (512, true), (SIZE - 2560, false)];
        assert_eq!(extents(&image, 0, SIZE).await, expected);
        drop(point);
    });
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let image = image(&disk).await;
        let ask = |name, start, length| {
            image.marked_extents(name, ByteRange::new(start, length), usize::MAX)
        };
        assert!(matches!(ask("c", 0, 1).await, Err(Error::BitmapNotFound(_))));
        assert!(matches!(ask("b", SIZE, 1).await, Err(Error::OutOfRange { .. })));
        assert!(matches!(ask("b", 5, 0).await, Err(Error::OutOfRange { .. })));
    });
}
