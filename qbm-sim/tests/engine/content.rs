//! Harm to what is stored and to the surroundings: backup points that rot, and a clock that jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qbm_core::backup::{self, BackupOptions, Finding};
use qbm_core::descriptor::Durability;
use qbm_core::host::Opener;
use qbm_core::image::{self, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, Granularity, Host, Id, Image, Persist, Timestamp};
use qbm_sim::{Disk, Medium, SimDirectory, run};

const GRANULE: usize = 512;
const SIZE: usize = 8 * GRANULE;

/// A host whose clock goes backwards at every look.
#[derive(Debug)]
struct Backwards(AtomicU64);

impl Host for Backwards {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000 - self.0.fetch_add(1000, Ordering::Relaxed))
    }

    fn fresh_id(&self) -> Id {
        Id(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }

    fn opener(&self) -> Opener {
        Opener { pid: 1, program: "test".to_owned(), boot: "simulated".to_owned() }
    }
}

/// Three points of a disk that is written to before each, and the disk as it was at each.
fn backed_up() -> (Disk, Vec<Vec<u8>>, Arc<dyn Host>) {
    let (source, target) = (Disk::new(Medium::new(), 1), Disk::immediate(Medium::new(), 2));
    let host: Arc<dyn Host> = Arc::new(Backwards(AtomicU64::new(0)));
    let (mut disk, mut disks) = (vec![0; SIZE], Vec::new());
    run(&source, 1, async {
        let directory = SimDirectory::new(&source);
        let options = CreateOptions {
            file: "d.raw".to_owned(),
            data: None,
            size: SIZE as u64,
            durability: Durability::Exact,
        };
        image::create(&directory, "i.qbm", options, &*host).await.unwrap();
        for index in 0..3_u8 {
            // Each by another process, so that the clock goes backwards between them, too.
            let options = OpenOptions::new(Access::Write);
            let image =
                Image::open(directory.clone(), "i.qbm", options, Arc::clone(&host)).await.unwrap();
            let granules = usize::from(index)..usize::from(index) + 2;
            for granule in granules {
                let bytes = [index * 16 + u8::try_from(granule).unwrap() + 1; GRANULE];
                disk[granule * GRANULE..][..GRANULE].copy_from_slice(&bytes);
                let buffer = Buffer::from_slice(&bytes);
                image.write((granule * GRANULE) as u64, buffer, Persist::Later).await.unwrap();
            }
            let options = BackupOptions {
                bitmap: "b".to_owned(),
                granularity: Granularity::MIN,
                name: index.to_string(),
                full: false,
                require_incremental: index > 0,
            };
            let target = SimDirectory::new(&target);
            backup::run(&image, &target, &options, &host, &mut |_| {}).await.unwrap();
            disks.push(disk.clone());
            image.close().await.unwrap();
        }
    });
    (target, disks, host)
}

/// What is wrong with the point `name` of `medium`.
fn verify(medium: Medium, host: &Arc<dyn Host>, name: &str) -> Option<Finding> {
    let disk = Disk::new(medium, 3);
    let directory = SimDirectory::new(&disk);
    run(&disk, 3, async {
        let points = backup::points(&directory).await.unwrap();
        let entry = points.find(name).unwrap();
        backup::verify(&directory, (&points, entry), host, &mut |_| {}).await.unwrap()
    })
}

/// Whether each damage to the data of a point is found, and only there.
fn is_found(damage: impl Fn(&mut Vec<u8>)) {
    let (target, _, host) = backed_up();
    for name in ["0", "1", "2"] {
        assert!(verify(target.snapshot(), &host, name).is_none(), "{name} is whole");
        let mut medium = target.snapshot();
        let before = medium.read(&format!("{name}.raw")).unwrap().to_vec();
        medium.corrupt(&format!("{name}.raw"), &damage);
        if medium.read(&format!("{name}.raw")).unwrap() == before {
            continue;
        }
        let found = verify(medium.clone(), &host, name);
        assert!(matches!(found, Some(Finding::Damaged { .. })), "{name}: {found:?}");
        let others = ["0", "1", "2"].into_iter().filter(|other| *other != name);
        for other in others {
            assert!(verify(medium.clone(), &host, other).is_none(), "{other} is whole");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_granule_of_a_point_is_found() {
    for bit in 0..64 {
        // The third granule is stored by the last two points, and there is nothing there in the first.
        let at = 2 * GRANULE + bit * 8;
        is_found(|bytes| bytes[at] ^= 1 << (bit % 8));
    }
}

#[test]
fn a_write_to_a_point_that_went_to_another_place_is_found() {
    is_found(|bytes| {
        // What was to go to the second granule of the point is in the third one.
        let misdirected = bytes[2 * GRANULE..3 * GRANULE].to_vec();
        bytes[2 * GRANULE..3 * GRANULE].fill(0);
        bytes[GRANULE..2 * GRANULE].copy_from_slice(&misdirected);
    });
}

#[test]
fn a_granule_of_a_point_with_what_was_there_before_is_found() {
    is_found(|bytes| bytes[2 * GRANULE..3 * GRANULE].fill(0));
}

/// The order of points is that of their parents; the time is only told.
#[test]
fn a_clock_that_jumps_backwards_loses_no_change() {
    let (target, disks, host) = backed_up();
    let target = Disk::new(target.snapshot(), 5);
    let directory = SimDirectory::new(&target);
    run(&target, 5, async {
        let points = backup::points(&directory).await.unwrap();
        let created: Vec<_> =
            ["0", "1", "2"].map(|name| points.find(name).unwrap().point.created).into();
        assert!(created.is_sorted_by(|one, next| one > next), "the clock went backwards");
        for (index, expected) in disks.iter().enumerate() {
            let entry = points.find(&index.to_string()).unwrap();
            let options = OpenOptions::new(Access::Read);
            let name = entry.descriptor();
            let point = Image::open(directory.clone(), &name, options, Arc::clone(&host));
            let point = point.await.unwrap();
            let restored = point.read(0, Buffer::zeroed(SIZE)).await.unwrap();
            assert!(*restored == **expected, "point {index}");
        }
    });
}
