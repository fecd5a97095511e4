//! Work on the image of a case: requests, and operations on its bitmaps, backups and size.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use qbm_core::bits::Bits;
use qbm_core::image::{BitmapAction, Fleece, Outcome, Persistence};
use qbm_core::{
    Buffer, ByteRange, Directory, Granularity, Host, Id, Image, Persist, Unmap, backup,
};

use super::model::{GRANULE, Model};
use super::operation::{Operation, Request};
use super::{BACKUP, OTHER, USER, backup_options, jobs, open, subject};
use crate::{Disk, SimDirectory, SimFile};

/// What a worker needs.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) image: &'a Image<SimDirectory>,
    pub(crate) disk: &'a Disk,
    pub(crate) target: &'a Disk,
    pub(crate) host: &'a Arc<dyn Host>,
    pub(crate) model: &'a RefCell<Model>,
}

/// Does all of `operations`, one after the other.
pub(crate) async fn perform_all(site: Site<'_>, operations: Vec<Operation>) {
    for operation in operations {
        perform(site, operation).await;
    }
}

/// Does `operation`, and tells the model what may have come of it.
pub(crate) async fn perform(site: Site<'_>, operation: Operation) {
    match operation {
        Operation::Flush => flush(site).await,
        Operation::Change { range, what, persist } => change(site, range, what, persist).await,
        Operation::BackUp(name) => back_up(site, &name).await,
        Operation::Rebuild => rebuild(site).await,
        Operation::GiveUp(point) => give_up_a_point(site, point).await,
        Operation::Resize(size) => resize(site, size).await,
        Operation::Merge => merge(site).await,
        Operation::Add => begin(site, OTHER, add(OTHER)).await,
        Operation::AddInMemory => add_in_memory(site).await,
        Operation::Set(persistence) => set_persistence(site, persistence).await,
        Operation::Clear => begin(site, USER, BitmapAction::Clear(USER.to_owned())).await,
        Operation::Enable => begin(site, USER, BitmapAction::Enable(USER.to_owned())).await,
        Operation::Remove => end(site, OTHER, BitmapAction::Remove(OTHER.to_owned())).await,
        Operation::Disable => end(site, USER, BitmapAction::Disable(USER.to_owned())).await,
        Operation::Mirror { copy_mode, moves } => jobs::mirror_disk(site, copy_mode, moves).await,
        Operation::Stream => jobs::stream_disk(site).await,
        Operation::OpenAgain => {
            let opened = open(site.disk, site.host).await;
            assert!(opened.is_err(), "two have opened the image for writing");
        }
    }
}

async fn flush(site: Site<'_>) {
    let begun = site.model.borrow_mut().begin_flush();
    if site.image.flush().await.is_ok() {
        site.model.borrow_mut().end_flush(begun);
    }
}

/// A request that changes `range`, as far as the disk has it and the model can tell one more.
async fn change(site: Site<'_>, range: Range<usize>, what: Request, persist: Persist) {
    let size = site.model.borrow().size();
    let range = range.start.min(size)..range.end.min(size);
    if !site.model.borrow().has_room() || range.is_empty() {
        return;
    }
    let (zeroes, hides) = (what != Request::Write, what != Request::Discard);
    let (index, byte) = site.model.borrow_mut().begin_write(range.clone(), zeroes, hides);
    let bytes = ByteRange::new(range.start as u64, range.len() as u64);
    let done = match what {
        Request::Write => {
            let buffer = Buffer::from_slice(&vec![byte; range.len()]);
            site.image.write(bytes.start(), buffer, persist).await.map(drop)
        }
        Request::Zeroes => site.image.write_zeroes(bytes, Unmap::Allowed).await,
        Request::FullZeroes => site.image.write_zeroes(bytes, Unmap::Forbidden).await,
        Request::Discard => site.image.discard(bytes).await,
    };
    if done.is_ok() {
        site.model.borrow_mut().end_write(index);
    }
}

async fn resize(site: Site<'_>, size: usize) {
    if !site.model.borrow().has_room() {
        return;
    }
    let index = site.model.borrow_mut().begin_resize(size);
    let done = site.image.resize(size as u64).await;
    let now = usize::try_from(site.image.size()).expect("a small disk");
    site.model.borrow_mut().end_resize(index, now, done.is_ok());
}

fn add(name: &str) -> BitmapAction {
    BitmapAction::Add { name: name.to_owned(), granularity: Granularity::MIN, disabled: false }
}

async fn back_up(site: Site<'_>, name: &str) {
    let target = SimDirectory::new(site.target);
    let options = backup_options(name);
    let Some(fleece) = fleece(site).await else { return };
    let source = (site.image, fleece);
    // An error is fine: a fault was injected. What it leaves is what is checked.
    let _report = backup::run_live(source, &target, &options, site.host, &mut |_| {}).await;
}

async fn rebuild(site: Site<'_>) {
    let target = SimDirectory::new(site.target);
    // There may be no point, or an error injected: the marks are checked whatever comes of it.
    let reference = backup::reference(site.image, &target, BACKUP, site.host).await;
    let Ok(reference) = reference else { return };
    let look = async {
        let size = site.image.size();
        let differing = Bits::new(Granularity::MIN.granules_of(size));
        reference.compare(site.image, ByteRange::new(0, size), None, &differing).await?;
        Ok(differing)
    };
    let _rebuilt = site.image.rebuild(BACKUP, reference.point(), look).await;
}

/// Takes a live point, and reads all of it while the guest writes: it is the disk of an instant.
async fn give_up_a_point(site: Site<'_>, point: Id) {
    let Some(fleece) = fleece(site).await else { return };
    let began = site.model.borrow_mut().begin_instant();
    let Ok(frozen) = site.image.begin_live_point(BACKUP, point, fleece).await else { return };
    let instant = site.model.borrow_mut().end_instant(&began);
    // Twice: what has been seen once does not change either.
    let mut seen: Vec<Option<u8>> = vec![None; usize::try_from(frozen.size()).expect("small")];
    for offset in (0..seen.len()).chain(0..seen.len()).step_by(GRANULE) {
        let end = seen.len().min(offset + GRANULE);
        let buffer = Buffer::zeroed(end - offset);
        let Ok(bytes) = site.image.read_at_point(frozen.view(), offset as u64, buffer).await else {
            // An error was injected: the point is lost, and says so.
            break;
        };
        for (seen, byte) in seen[offset..end].iter_mut().zip(&*bytes) {
            let before = *seen.get_or_insert(*byte);
            assert_eq!(before, *byte, "P5: a point has changed, near byte {offset}");
        }
        instant.check(offset, &bytes);
    }
    let _settled = site.image.settle_point(frozen, Outcome::Abandoned).await;
}

/// An empty fleece in a file without a name, unless an error was injected. It is beside the image,
/// so that errors strike it too.
async fn fleece(site: Site<'_>) -> Option<Arc<Fleece<SimFile>>> {
    let (directory, name) = (SimDirectory::new(site.disk), site.host.fresh_id().to_string());
    let file = directory.create(&name).await.ok()?;
    directory.remove(&name).await.ok()?;
    Some(Arc::new(Fleece::new(file, u64::MAX)))
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
            drop(model);
            // What has been written since is marked, so it may be in this or not.
            let Ok(contents) = subject::contents(site.image).await else { return };
            let mut model = site.model.borrow_mut();
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

/// An action after which the bitmap `name` is gone, or tracks nothing.
async fn end(site: Site<'_>, name: &str, action: BitmapAction) {
    let change = site.model.borrow_mut().begin_change(name);
    let done = site.image.transaction(&[action]).await;
    let mut model = site.model.borrow_mut();
    match done {
        Ok(()) => model.end_tracking(name),
        Err(error) if is_refusal(&error) => model.unchanged(name, &change),
        Err(_) => {}
    }
}

/// The second bitmap comes in memory: what is on the medium is what it was, also while it does.
async fn add_in_memory(site: Site<'_>) {
    let since = site.model.borrow().time();
    let (name, granularity) = (OTHER.to_owned(), Granularity::MIN);
    let action = BitmapAction::AddInMemory { name, granularity, disabled: false };
    if site.image.transaction(&[action]).await.is_ok() {
        let contents = subject::contents(site.image).await.expect("no read fails");
        site.model.borrow_mut().begin_tracking_in_memory(OTHER, &contents, since);
    }
}

async fn set_persistence(site: Site<'_>, persistence: Persistence) {
    let change = site.model.borrow_mut().begin_change(OTHER);
    let action = BitmapAction::SetPersistence { name: OTHER.to_owned(), persistence };
    let done = site.image.transaction(&[action]).await;
    let mut model = site.model.borrow_mut();
    match done {
        Ok(()) => model.end_set(OTHER, persistence, &change),
        Err(error) if is_refusal(&error) => model.unchanged(OTHER, &change),
        Err(_) => {}
    }
}

async fn merge(site: Site<'_>) {
    let change = site.model.borrow_mut().begin_change(USER);
    let action = BitmapAction::Merge { target: USER.to_owned(), source: OTHER.to_owned() };
    let done = site.image.transaction(&[action]).await;
    let mut model = site.model.borrow_mut();
    match (done, &change.known) {
        (Ok(()), Some(_)) => model.merged(USER, OTHER),
        (Ok(()), None) => model.unchanged(USER, &change),
        (Err(error), _) if is_refusal(&error) => model.unchanged(USER, &change),
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
