//! Names that the engine gives files itself never take a file from somebody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qbm_core::backup::{self, BackupOptions};
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, Granularity, Host, Image, Result};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

/// A host with ids that no other has.
fn host() -> Arc<dyn Host> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Arc::new(SimHost::new(NEXT.fetch_add(1, Ordering::Relaxed)))
}

async fn open(disk: &Disk, name: &str, access: Access) -> Result<Image<SimDirectory>> {
    Image::open(SimDirectory::new(disk), name, OpenOptions::new(access), host()).await
}

/// The image `name` with the data image `data` and the bitmap `b`.
async fn add_image(disk: &Disk, name: &str, data: &str) {
    let (file, durability) = (data.to_owned(), Durability::Exact);
    let options = CreateOptions { file, data: None, size: 1 << 20, durability };
    image::create(&SimDirectory::new(disk), name, options, &*host()).await.unwrap();
    let image = open(disk, name, Access::Write).await.unwrap();
    let (name, granularity) = ("b".to_owned(), Granularity::MIN);
    let add = BitmapAction::Add { name, granularity, disabled: false };
    image.transaction(&[add]).await.unwrap();
    image.close().await.unwrap();
}

fn assert_same(one: &Medium, other: &Medium) {
    assert!(one.names().eq(other.names()), "a file came or went");
    assert!(one.names().all(|name| one.read(name) == other.read(name)), "one has changed");
}

/// Found by the fuzzer: the copy of the descriptor that an open for writing leaves took the place of
/// a data image that had its name.
#[test]
fn the_copy_of_the_descriptor_takes_the_place_of_no_file_of_the_image() {
    let disk = Disk::new(Medium::new(), 1);
    run(&disk, 1, add_image(&disk, "i.qbm", "d.raw"));
    for file in ["d.raw", ".bits"] {
        let mut medium = disk.snapshot();
        let name = medium.names().find(|name| name.ends_with(file)).unwrap().to_owned();
        medium.put("i.qbm~", medium.read(&name).unwrap().to_vec());
        medium.corrupt("i.qbm", |text| {
            *text = String::from_utf8(text.clone()).unwrap().replace(&name, "i.qbm~").into_bytes();
        });
        let disk = Disk::new(medium.clone(), 2);
        run(&disk, 2, async {
            open(&disk, "i.qbm", Access::Read).await.unwrap();
            let error = open(&disk, "i.qbm", Access::Write).await.unwrap_err();
            let text = "i.qbm~: it stands for two things in this image, or behind it";
            assert_eq!(error.to_string(), text);
        });
        assert_same(&disk.snapshot(), &medium);
    }
}

/// A data image may have any name, also one like those of our own files; and the names of one image
/// may go on from that of another.
#[test]
fn a_repair_removes_only_what_nothing_names() {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    let disk = Disk::new(Medium::new(), 3);
    run(&disk, 3, async {
        add_image(&disk, "i.qbm", &format!("i.qbm.b.{ID}.bits")).await;
        add_image(&disk, "i.qbm.other", &format!("i.qbm.{ID}.tmp.raw")).await;
    });
    let mut medium = disk.snapshot();
    let before = medium.clone();
    let orphans = ["a-_.{}.bits", "a-_.{}.seal", "{}.tmp"];
    let orphans = orphans.map(|form| format!("i.qbm.{}", form.replace("{}", ID)));
    orphans.iter().for_each(|name| medium.put(name, vec![1]));
    let disk = Disk::new(medium, 4);
    run(&disk, 4, async {
        let report = image::repair(SimDirectory::new(&disk), "i.qbm", None, host()).await.unwrap();
        let mut sorted = orphans.to_vec();
        sorted.sort();
        assert_eq!(report.orphans, sorted);
    });
    // The repair seals the bitmap anew.
    let names = |medium: &Medium| -> Vec<String> {
        let own_seal = |name: &&str| name.starts_with("i.qbm.b.") && name.ends_with(".seal");
        medium.names().filter(|name| !own_seal(name)).map(str::to_owned).collect()
    };
    assert_eq!(names(&disk.snapshot()), names(&before));
}

/// Found by the fuzzer: a descriptor of the new point's name was replaced unless it was a point.
#[test]
fn a_backup_takes_the_place_of_no_file_of_the_target() {
    let (disk, target) = (Disk::new(Medium::new(), 5), Disk::new(Medium::new(), 6));
    run(&disk, 5, add_image(&disk, "i.qbm", "d.raw"));
    let source = disk.snapshot();
    for contents in [&b""[..], b"no descriptor", source.read("i.qbm").unwrap()] {
        let mut medium = target.snapshot();
        medium.put("new.qbm", contents.to_vec());
        let target = Disk::immediate(medium.clone(), 7);
        run(&disk, 7, async {
            let image = open(&disk, "i.qbm", Access::Write).await.unwrap();
            let options = BackupOptions {
                bitmap: "b".to_owned(),
                granularity: Granularity::MIN,
                name: "new".to_owned(),
                full: false,
                require_incremental: false,
            };
            let target = SimDirectory::new(&target);
            let made = backup::run(&image, &target, &options, &host(), &mut |_| {}).await;
            assert_eq!(made.unwrap_err().to_string(), "new.qbm: it exists already");
            image.close().await.unwrap();
        });
        assert_same(&target.snapshot(), &medium);
    }
}
