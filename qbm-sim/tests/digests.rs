//! The digests of points: what they say of damage to a point.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use qbm_core::backup::{self, BackupOptions, Finding};
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, ByteRange, Granularity, Host, Image, Persist};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

const SPECIFICATION: &str = include_str!("../../docs/format.md");
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
            let options = OpenOptions::new(Access::Write);
            let host = Arc::clone(&scene.host);
            let image = Image::open(directory, "i.qbm", options, host).await.unwrap();
            for (name, byte, granule) in [("0", 7, 1), ("1", 8, 3)] {
                let bytes = Buffer::from_slice(&[byte; 64 << 10]);
                image.write(granule * GRANULE, bytes, Persist::Later).await.unwrap();
                let options = BackupOptions {
                    bitmap: "b".to_owned(),
                    granularity,
                    name: name.to_owned(),
                    full: false,
                    require_incremental: false,
                };
                let target = SimDirectory::new(&scene.target);
                backup::run(&image, &target, &options, &scene.host, &mut |_| {}).await.unwrap();
            }
            image.close().await.unwrap();
        });
        scene
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
    assert_eq!(digests[..32], dump(1));
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
    let found = scene.finding("1", |medium| medium.corrupt(&bits, |bytes| bytes[0] = 0));
    assert!(matches!(found, Some(Finding::Damaged { .. })), "{found:?}");
}
