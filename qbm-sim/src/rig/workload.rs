//! Who works on the image of a case: writers, and an operator of its bitmaps and backups.

use std::cell::RefCell;
use std::sync::Arc;

use fastrand::Rng;
use qbm_core::image::{BitmapAction, Outcome};
use qbm_core::{Buffer, ByteRange, Granularity, Host, Id, Image, Persist, Unmap, backup};

use super::model::{GRANULE, Model};
use super::{BACKUP, DATA, MAX_SIZE, backup_options};
use crate::{Disk, SimDirectory};

/// What a worker needs.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) image: &'a Image<SimDirectory>,
    pub(crate) disk: &'a Disk,
    pub(crate) target: &'a Disk,
    pub(crate) host: &'a Arc<dyn Host>,
    pub(crate) model: &'a RefCell<Model>,
}

/// Writes and flushes, `count` times.
pub(crate) async fn write(site: Site<'_>, mut rng: Rng, count: u32) {
    for _ in 0..count {
        if !site.model.borrow().has_room() {
            return;
        }
        match rng.u8(..16) {
            0..3 => flush(site).await,
            3 => change(site, &mut rng, true, true).await,
            4 => change(site, &mut rng, true, false).await,
            _ => change(site, &mut rng, false, true).await,
        }
    }
}

async fn flush(site: Site<'_>) {
    let begun = site.model.borrow_mut().begin_flush();
    if site.image.flush().await.is_ok() {
        site.model.borrow_mut().end_flush(begun);
    }
}

/// A write, or with `zeroes` a write-zeroes, which is a discard unless it `hides`.
async fn change(site: Site<'_>, rng: &mut Rng, zeroes: bool, hides: bool) {
    let range = some_range(rng, site.model.borrow().size());
    let persist = if rng.u8(..8) == 0 { Persist::Now } else { Persist::Later };
    let (index, byte) = site.model.borrow_mut().begin_write(range.clone(), zeroes, hides);
    let bytes = ByteRange::new(range.start as u64, range.len() as u64);
    let done = match (zeroes, hides) {
        (false, _) => {
            let buffer = Buffer::from_slice(&vec![byte; range.len()]);
            site.image.write(bytes.start(), buffer, persist).await.map(drop)
        }
        (true, true) => site.image.write_zeroes(bytes, Unmap::Allowed).await,
        (true, false) => site.image.discard(bytes).await,
    };
    if done.is_ok() {
        site.model.borrow_mut().end_write(index);
    }
}

/// Mostly one granule of few, so that writers meet; sometimes unaligned, across several.
fn some_range(rng: &mut Rng, size: usize) -> std::ops::Range<usize> {
    let start = match rng.u8(..4) {
        0 => rng.usize(..size - 1),
        1 => (size - 1) / GRANULE * GRANULE,
        _ => rng.usize(..4) * GRANULE,
    };
    let length = if rng.u8(..4) == 0 { rng.usize(1..3 * GRANULE) } else { GRANULE };
    start..(start + length).min(size)
}

/// Changes bitmaps and makes backups, `count` times.
pub(crate) async fn operate(site: Site<'_>, mut rng: Rng, count: u32) {
    for turn in 0..count {
        match rng.u8(..12) {
            0..4 => back_up(site, &format!("{turn}-{}", rng.u32(..))).await,
            4 => give_up_a_point(site, &mut rng).await,
            5 => begin(site, "user", BitmapAction::Clear("user".to_owned())).await,
            6 => begin(site, "other", add("other")).await,
            7 => begin(site, "user", BitmapAction::Enable("user".to_owned())).await,
            8 => end(site, &mut rng).await,
            9 | 10 => resize(site, &mut rng).await,
            _ => merge(site).await,
        }
    }
}

async fn resize(site: Site<'_>, rng: &mut Rng) {
    let size = MAX_SIZE - rng.usize(..6) * 300;
    site.model.borrow_mut().begin_resize(size);
    let done = site.image.resize(size as u64).await;
    let now = usize::try_from(site.image.size()).expect("a small disk");
    site.model.borrow_mut().end_resize(now, done.is_ok());
}

fn add(name: &str) -> BitmapAction {
    BitmapAction::Add { name: name.to_owned(), granularity: Granularity::MIN, disabled: false }
}

async fn back_up(site: Site<'_>, name: &str) {
    let target = SimDirectory::new(site.target);
    let options = backup_options(name);
    // An error is fine: a fault was injected. What it leaves is what is checked.
    let _report = backup::run(site.image, &target, &options, site.host, &mut |_| {}).await;
}

async fn give_up_a_point(site: Site<'_>, rng: &mut Rng) {
    let point = Id(rng.u128(..));
    if let Ok(frozen) = site.image.begin_point(BACKUP, point).await {
        let _settled = site.image.settle_point(frozen, Outcome::Abandoned).await;
    }
}

/// An action after which the bitmap `name` tracks changes from now on.
async fn begin(site: Site<'_>, name: &str, action: BitmapAction) {
    let enable = matches!(action, BitmapAction::Enable(_));
    let change = site.model.borrow_mut().begin_change(name);
    let done = site.image.transaction(&[action]).await;
    let found = site.image.bitmaps().await;
    let disabled = found.iter().any(|bitmap| bitmap.name == name && bitmap.disabled);
    let mut model = site.model.borrow_mut();
    match done {
        Ok(()) if disabled => model.end_tracking(name),
        // It was enabled all along, so it is relative to what it was.
        Ok(()) if enable && change.known.is_some() => model.unchanged(name, &change),
        Ok(()) => {
            let contents = site.disk.snapshot().read(DATA).expect("the data image").to_vec();
            model.begin_tracking(name, &contents, change.since);
            if enable {
                model.keep_old_marks(name);
            }
        }
        Err(error) if is_refusal(&error) => model.unchanged(name, &change),
        // A crash may find either, until the next commit.
        Err(_) => {}
    }
}

/// An action after which the bitmap is gone, or tracks nothing.
async fn end(site: Site<'_>, rng: &mut Rng) {
    let (name, action) = match rng.bool() {
        true => ("other", BitmapAction::Remove("other".to_owned())),
        false => ("user", BitmapAction::Disable("user".to_owned())),
    };
    let change = site.model.borrow_mut().begin_change(name);
    let done = site.image.transaction(&[action]).await;
    let mut model = site.model.borrow_mut();
    match done {
        Ok(()) => model.end_tracking(name),
        Err(error) if is_refusal(&error) => model.unchanged(name, &change),
        Err(_) => {}
    }
}

async fn merge(site: Site<'_>) {
    let change = site.model.borrow_mut().begin_change("user");
    let action = BitmapAction::Merge { target: "user".to_owned(), source: "other".to_owned() };
    let done = site.image.transaction(&[action]).await;
    let mut model = site.model.borrow_mut();
    match (done, &change.known) {
        (Ok(()), Some(_)) => model.merged("user", "other"),
        (Ok(()), None) => model.unchanged("user", &change),
        (Err(error), _) if is_refusal(&error) => model.unchanged("user", &change),
        (Err(_), _) => {}
    }
}

/// Whether the image refused before it did anything.
fn is_refusal(error: &qbm_core::Error) -> bool {
    use qbm_core::Error;
    matches!(
        error,
        Error::BitmapExists(_) | Error::BitmapNotFound(_) | Error::BitmapBusy(_) | Error::ReadOnly
    )
}
