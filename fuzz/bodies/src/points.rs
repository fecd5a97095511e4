//! A target directory with any content is listed, verified and added to: what is in it stays, and a
//! point that is made there restores to what was backed up.

use std::sync::OnceLock;

use futures_executor::block_on;
use qbm_core::backup::{self, BackupOptions, BackupReport, Points};
use qbm_core::copy::Writing;
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, CreateOptions};
use qbm_core::{Access, Buffer, Directory, Granularity, Image, Persist, Result, Storage};
use qbm_sim::{Disk, Medium, SimDirectory};

use crate::directory::{contents, damage, host, open, same};
use crate::input::Input;

const SIZE: u64 = 5000;
const NAMES: &[&str] = &["0.qbm", "1.qbm", "2.qbm", "x.qbm", "x.raw", "new.raw", "new.qbm", "x"];

/// Damages a target, and uses it.
///
/// # Panics
///
/// If a file of it is changed, a point verifies that cannot be read, or a new point is not what was
/// backed up.
pub fn points(bytes: &[u8]) {
    static BEGUN: OnceLock<(Medium, Medium)> = OnceLock::new();
    let (source, target) = BEGUN.get_or_init(set_up);
    let mut input = Input(bytes);
    let mut medium = target.clone();
    for _ in 0..1 + input.byte().unwrap_or(0) % 4 {
        damage(&mut medium, &mut input, NAMES);
    }
    let disk = Disk::immediate(medium.clone(), 0);
    let found = block_on(backup::points(&SimDirectory::new(&disk))).expect("it can be listed");
    look_at(&disk, &found);
    let choice = input.byte().unwrap_or(0) % 4;
    if choice < 2 {
        add_to(source, &disk, &found, choice == 0);
    }
    let after = disk.snapshot();
    for name in medium.names() {
        assert_eq!(after.read(name), medium.read(name), "{name} was changed");
    }
}

/// A source with a bitmap, and a target with three points of it.
fn set_up() -> (Medium, Medium) {
    let (source, target) = (Disk::immediate(Medium::new(), 1), Disk::immediate(Medium::new(), 2));
    let options = CreateOptions {
        file: "d.raw".to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    block_on(image::create(&SimDirectory::new(&source), "i.qbm", options, &*host()))
        .expect("an empty directory");
    let image = open(&source, "i.qbm", Access::Write).expect("it was just made");
    for index in 0..3_u8 {
        write(&image, index);
        back_up(&image, &target, &options_of(&index.to_string())).expect("no error is injected");
    }
    write(&image, 3);
    block_on(image.close()).expect("no error is injected");
    (source.snapshot(), target.snapshot())
}

fn write(image: &Image<SimDirectory>, index: u8) {
    let buffer = Buffer::from_slice(&[index + 1; 700]);
    block_on(image.write(u64::from(index) * 600, buffer, Persist::Later)).expect("a small disk");
}

fn options_of(name: &str) -> BackupOptions {
    BackupOptions {
        bitmap: "b".to_owned(),
        granularity: Granularity::MIN,
        name: name.to_owned(),
        full: false,
        require_incremental: false,
    }
}

fn back_up(
    image: &Image<SimDirectory>,
    target: &Disk,
    options: &BackupOptions,
) -> Result<BackupReport> {
    let target = SimDirectory::new(target);
    block_on(backup::run(image, &target, options, &host(), &mut |_| {}))
}

/// Every point is found by its name and id, and what verifies can be read.
fn look_at(disk: &Disk, points: &Points) {
    let directory = &SimDirectory::new(disk);
    assert!(points.entries.is_sorted_by_key(|entry| (entry.point.created, &entry.name)));
    for entry in &points.entries {
        let found = points.find(&entry.name).expect("it is listed");
        assert_eq!(found.name, entry.name);
        assert!(points.find(&entry.point.id.to_string()).is_some(), "by its id");
        let finding = block_on(backup::verify(directory, (points, entry), &host(), &mut |_| {}));
        if finding.expect("no error is injected").is_some() {
            continue;
        }
        let opened = open(disk, &entry.descriptor(), Access::Read).expect("it was verified");
        contents(&opened).expect("no error is injected");
    }
}

/// The next backup fails, or is one.
fn add_to(source: &Medium, target: &Disk, points: &Points, full: bool) {
    let source = Disk::immediate(source.clone(), 3);
    let image = open(&source, "i.qbm", Access::Write).expect("it was closed");
    let before = target.snapshot();
    let options = BackupOptions { full, ..options_of("new") };
    let Ok(report) = back_up(&image, target, &options) else {
        assert!(same(&before, &target.snapshot()), "a part of a point was left");
        return;
    };
    assert!(points.find("new").is_none(), "the name was taken");
    if let backup::Kind::Full(_) = report.kind {
        // One that is incremental is as good as the point that it is relative to.
        let disk = restored(target);
        assert!(disk == *contents(&image).expect("no error is injected"), "it restores wrongly");
    }
    block_on(image.close()).expect("no error is injected");
}

/// The disk of the new point.
fn restored(target: &Disk) -> Vec<u8> {
    let point = open(target, "new.qbm", Access::Read).expect("it was just made");
    let disk = Disk::immediate(Medium::new(), 4);
    block_on(async {
        let out = SimDirectory::new(&disk).create("out").await?;
        out.set_len(point.size()).await?;
        let sink: qbm_core::Disk<'_, SimDirectory> =
            qbm_core::Disk::File { name: "out", file: &out, size: point.size() };
        let done = backup::restore(&point, sink, Writing::ToEmpty, &mut |_| {}).await;
        done.map_err(std::io::Error::other)
    })
    .expect("no error is injected");
    disk.snapshot().read("out").expect("just written").to_vec()
}
