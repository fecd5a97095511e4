//! The digests of points: what they say of damage to a point, and of a disk that has changed.

use std::sync::Arc;

use qbm_core::backup::{self, BackupOptions, BackupReport, Finding, Kind, Reference};
use qbm_core::bits::Bits;
use qbm_core::descriptor::{Doubt, Durability};
use qbm_core::image::{self, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, ByteRange, Error, Granularity, Host, Id, Image, Persist, Result};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

const SPECIFICATION: &str = include_str!("../../../docs/format.md");
const GRANULE: u64 = 64 << 10;
/// The last granule is a partial one.
const SIZE: u64 = 15 * GRANULE + 1000;

/// An image, and a target with a full point `0` of it and an incremental one, `1`.
struct Scene {
    disk: Disk,
    target: Disk,
    host: Arc<dyn Host>,
}

impl Scene {
    fn new(granularity: Granularity) -> Self {
        let (disk, target) = (Disk::new(Medium::new(), 1), Disk::immediate(Medium::new(), 2));
        let scene = Self { disk, target, host: Arc::new(SimHost::new(3)) };
        run(&scene.disk, 1, async {
            let (file, durability) = ("d.raw".to_owned(), Durability::Exact);
            let options = CreateOptions { file, data: None, size: SIZE, durability };
            let directory = SimDirectory::new(&scene.disk);
            image::create(&directory, "i.qbm", options, &*scene.host).await.unwrap();
            let image = scene.open(Access::Write).await;
            for (name, byte, granule) in [("0", 7, 1), ("1", 8, 3)] {
                let bytes = Buffer::from_slice(&[byte; 64 << 10]);
                image.write(granule * GRANULE, bytes, Persist::Later).await.unwrap();
                scene.back_up(&image, name, granularity).await;
            }
            image.close().await.unwrap();
        });
        scene
    }

    async fn open(&self, access: Access) -> Image<SimDirectory> {
        let (options, host) = (OpenOptions::new(access), Arc::clone(&self.host));
        Image::open(SimDirectory::new(&self.disk), "i.qbm", options, host).await.unwrap()
    }

    async fn back_up(
        &self,
        image: &Image<SimDirectory>,
        name: &str,
        granularity: Granularity,
    ) -> BackupReport {
        let options = BackupOptions {
            bitmap: "b".to_owned(),
            granularity,
            name: name.to_owned(),
            full: false,
            require_incremental: false,
        };
        let target = SimDirectory::new(&self.target);
        backup::run(image, &target, &options, &self.host, &mut |_| {}).await.unwrap()
    }

    async fn reference(&self, image: &Image<SimDirectory>) -> Result<Reference<SimDirectory>> {
        backup::reference(image, &SimDirectory::new(&self.target), "b", &self.host).await
    }

    /// The granules without a mark in which the disk is another than at the last point.
    fn lost(&self) -> Vec<u64> {
        run(&self.disk, 5, async {
            let image = self.open(Access::Read).await;
            let reference = self.reference(&image).await.unwrap();
            let marks = image.bitmap_bits("b").await.unwrap();
            let lost = Bits::new(marks.len());
            let all = ByteRange::new(0, image.size());
            reference.compare(&image, all, Some(&marks), &lost).await.unwrap();
            (0..lost.len()).filter(|granule| lost.get(*granule)).collect()
        })
    }

    /// Changes the disk behind the back of its bitmaps, which does not show in its times.
    fn change(&self, change: impl Fn(&mut Vec<u8>)) -> Self {
        let mut medium = self.disk.snapshot();
        medium.rot("d.raw", change);
        Self {
            disk: Disk::new(medium, 6),
            target: Disk::immediate(self.target.snapshot(), 7),
            host: Arc::clone(&self.host),
        }
    }

    /// The name of the file in the target that begins and ends so.
    fn file(&self, point: &str, ending: &str) -> String {
        let medium = self.target.snapshot();
        let ours = |name: &&str| name.starts_with(point) && name.ends_with(ending);
        medium.names().find(ours).unwrap().to_owned()
    }

    /// What is wrong with the point `name`, after `damage`.
    fn finding(&self, name: &str, damage: impl FnOnce(&mut Medium)) -> Option<Finding> {
        let mut medium = self.target.snapshot();
        damage(&mut medium);
        let disk = Disk::immediate(medium, 4);
        run(&disk, 4, async {
            let target = SimDirectory::new(&disk);
            let points = backup::points(&target).await.unwrap();
            let entry = points.find(name).unwrap();
            backup::verify(&target, (&points, entry), &self.host, &mut |_| {}).await.unwrap()
        })
    }
}

/// The bytes that the `index`th dump of the specification shows.
fn dump(index: usize) -> Vec<u8> {
    let text = SPECIFICATION.split("```hexdump\n").nth(index + 1).unwrap();
    let lines = text.split("```").next().unwrap().lines();
    let digits = lines.map(|line| line.split_once(": ").unwrap().1.split("  ").next().unwrap());
    let digits: String = digits.collect::<String>().replace(' ', "");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[test]
fn the_file_of_digests_begins_as_the_specification_says() {
    let scene = Scene::new(Granularity::DEFAULT);
    let medium = scene.target.snapshot();
    let digests = medium.read(&scene.file("0.", ".digests")).unwrap();
    assert_eq!(digests.len(), 256);
    assert_eq!(digests[..32], dump(2));
    assert!(digests[32..].iter().all(|byte| *byte == 0), "the rest is zeroes");
    let digests = medium.read(&scene.file("1.", ".digests")).unwrap();
    let stored: Vec<usize> = (0..16).filter(|i| digests[16 * i..][..16] != [0; 16]).collect();
    assert_eq!(stored, [3], "of what it stores");
}

#[test]
fn a_damaged_block_is_named() {
    for granularity in [Granularity::MIN, Granularity::DEFAULT, Granularity::MAX] {
        let scene = Scene::new(granularity);
        assert!(scene.finding("0", |_| ()).is_none());
        assert!(scene.finding("1", |_| ()).is_none());
        // In data, in a hole, and in the last bytes.
        for place in [GRANULE + 5, 9 * GRANULE, SIZE - 1] {
            let damage = |medium: &mut Medium| {
                medium.corrupt("0.raw", |bytes| bytes[usize::try_from(place).unwrap()] ^= 1);
            };
            let Some(Finding::Damaged { areas }) = scene.finding("0", damage) else { panic!() };
            let block = granularity.bytes().min(1 << 20);
            let start = place - place % block;
            assert_eq!(areas, [ByteRange::new(start, block).clip(SIZE)]);
        }
    }
}

#[test]
fn damaged_digests_are_not_taken_for_a_damaged_point() {
    let scene = Scene::new(Granularity::DEFAULT);
    let digests = scene.file("0.", ".digests");
    let flip = |bytes: &mut Vec<u8>| bytes[100] ^= 1;
    let found = scene.finding("0", |medium| medium.corrupt(&digests, flip));
    assert!(matches!(found, Some(Finding::DigestsDamaged)), "{found:?}");
    let found = scene.finding("0", |medium| medium.remove(&digests));
    assert!(matches!(found, Some(Finding::DigestsDamaged)), "{found:?}");
    // Both: then nobody knows where.
    let found = scene.finding("0", |medium| {
        medium.corrupt(&digests, flip);
        medium.corrupt("0.raw", |bytes| bytes[70_000] ^= 1);
    });
    assert!(matches!(&found, Some(Finding::Damaged { areas }) if areas.is_empty()), "{found:?}");
}

#[test]
fn a_mark_that_an_allocation_bitmap_lost_is_found() {
    let scene = Scene::new(Granularity::DEFAULT);
    let bits = scene.file("1.", ".bits");
    let lose = |medium: &mut Medium| medium.corrupt(&bits, |bytes| bytes[0] = 0);
    let found = scene.finding("1", lose);
    assert!(matches!(found, Some(Finding::Unusable(_))), "by its seal: {found:?}");
    let seal = scene.file("1.", ".seal");
    let found = scene.finding("1", |medium| {
        medium.remove(&seal);
        lose(medium);
    });
    assert!(matches!(found, Some(Finding::Damaged { .. })), "by its digests: {found:?}");
}

#[test]
fn a_byte_that_was_changed_without_a_mark_is_found() {
    for granularity in [Granularity::MIN, Granularity::DEFAULT, Granularity::MAX] {
        let scene = Scene::new(granularity);
        assert_eq!(scene.lost(), []);
        // What the last point stores, what one before it does, what none does, and the last bytes.
        for place in [3 * GRANULE + 5, GRANULE + 700, 9 * GRANULE, SIZE - 1] {
            let changed = scene.change(|bytes| bytes[usize::try_from(place).unwrap()] ^= 1);
            assert_eq!(changed.lost(), [place / granularity.bytes()], "{place}");
        }
        let zeroed = scene.change(|bytes| bytes[131_072..].fill(0));
        assert_eq!(zeroed.lost().first(), Some(&(3 * GRANULE / granularity.bytes())));
    }
}

#[test]
fn what_is_marked_is_not_looked_at_and_what_is_written_is_marked() {
    let scene = Scene::new(Granularity::DEFAULT);
    run(&scene.disk, 8, async {
        let image = scene.open(Access::Write).await;
        image.write(9 * GRANULE, Buffer::from_slice(&[1]), Persist::Later).await.unwrap();
        image.close().await.unwrap();
    });
    assert_eq!(scene.lost(), []);
    assert_eq!(scene.change(|bytes| bytes[9 << 16] = 5).lost(), []);
}

#[test]
fn a_disk_of_another_size_is_compared_as_far_as_it_goes() {
    for size in [GRANULE + 5, 14 * GRANULE, 15 * GRANULE + 3, SIZE + 1, 18 * GRANULE] {
        let scene = Scene::new(Granularity::DEFAULT);
        run(&scene.disk, 9, async {
            let image = scene.open(Access::Write).await;
            image.resize(size).await.unwrap();
            image.close().await.unwrap();
        });
        assert_eq!(scene.lost(), [], "{size}: what a resize adds, it marks");
        // In a granule that the end of the disk may cut now.
        let changed = scene.change(|bytes| bytes[65_536 + 3] ^= 1);
        assert_eq!(changed.lost(), [1], "{size}");
    }
}

#[test]
fn a_rebuilt_bitmap_is_exact_and_the_next_backup_incremental() {
    let scene = Scene::new(Granularity::DEFAULT);
    let mut medium = scene.disk.snapshot();
    medium.corrupt("d.raw", |bytes| bytes[9 << 16] = 5);
    let scene = Scene { disk: Disk::new(medium, 10), ..scene };
    let report = run(&scene.disk, 11, async {
        let image = scene.open(Access::Write).await;
        let before = image.bitmaps().await.remove(0);
        assert_eq!((before.doubt, before.marked), (Some(Doubt::DataChanged), 16));
        let reference = scene.reference(&image).await.unwrap();
        let other = image.rebuild("b", Id(1), async { Ok(Bits::new(16)) }).await;
        assert!(matches!(other, Err(Error::Unusable { .. })), "{other:?}");
        let look = async {
            let differing = Bits::new(16);
            let all = ByteRange::new(0, image.size());
            reference.compare(&image, all, None, &differing).await?;
            // A write that comes while the disk is looked at.
            image.write(12 * GRANULE, Buffer::from_slice(&[3]), Persist::Later).await?;
            Ok(differing)
        };
        image.rebuild("b", reference.point(), look).await.unwrap();
        let marks = image.bitmap_bits("b").await.unwrap();
        assert_eq!(marks.areas().collect::<Vec<_>>(), [9..10, 12..13]);
        assert_eq!(image.bitmaps().await[0].doubt, None);
        let report = scene.back_up(&image, "2", Granularity::DEFAULT).await;
        image.close().await.unwrap();
        report
    });
    assert!(matches!(report.kind, Kind::Incremental { .. }), "{report:?}");
    assert_eq!(report.dirty, 2 * GRANULE);
    assert_eq!(scene.lost(), []);
}

#[test]
fn digests_that_are_not_what_they_were_are_not_relied_upon() {
    for (point, ending) in [("0.", ".digests"), ("1.", ".digests"), ("1.", ".bits")] {
        let scene = Scene::new(Granularity::DEFAULT);
        let mut medium = scene.target.snapshot();
        medium.corrupt(&scene.file(point, ending), |bytes| bytes[0] ^= 1);
        let scene = Scene { target: Disk::immediate(medium, 12), ..scene };
        let refused = run(&scene.disk, 13, async {
            scene.reference(&scene.open(Access::Read).await).await.map(drop)
        });
        assert!(matches!(refused, Err(Error::Unusable { .. })), "{refused:?}");
    }
}
