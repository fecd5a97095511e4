//! Recovering a crash image, and holding it against the model.

use std::sync::Arc;

use qbm_core::backup;
use qbm_core::bits::Bits;
use qbm_core::copy::Writing;
use qbm_core::descriptor::Doubt;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Directory, Host, Image};

use super::model::{GRANULE, Model, check_covers};
use super::{BACKUP, Count, Media, USER, backup_options, now, open, subject};
use crate::{Disk, Medium, SimDirectory, SimHost};

/// Recovers `media` and checks P1 to P4.
///
/// # Panics
///
/// With the promise that is broken.
pub(crate) fn recovered(media: &Media, model: &Model, seed: u64, count: &mut Count) {
    count.images += 1;
    let source = Disk::immediate(media.source.clone(), seed);
    let target = Disk::immediate(media.target.clone(), seed);
    let host: Arc<dyn Host> = Arc::new(SimHost::new(seed));
    let checked = now(async {
        let image = open(&source, &host).await.map_err(|error| format!("P4: open: {error}"))?;
        let contents = subject::contents(&image).await;
        let contents = contents.map_err(|error| format!("P3: read: {error}"))?;
        model.check_contents(&contents)?;
        check_copies(&media.source, model)?;
        check_names(&image, model).await?;
        count.excess += check_bitmaps(&image, model, &contents).await?;
        check_chain(&image, &target, (&host, &contents)).await?;
        count.restores += 2;
        image.close().await.map_err(|error| format!("P4: close: {error}"))
    });
    if let Err(broken) = checked {
        let descriptor = media.source.read(super::IMAGE).unwrap_or_default();
        panic!("{broken}\n{}", String::from_utf8_lossy(descriptor));
    }
}

/// P3: what a mirror has left is whole.
fn check_copies(medium: &Medium, model: &Model) -> Result<(), String> {
    for (name, contents) in model.copies() {
        if medium.read(name) != Some(contents.as_slice()) {
            return Err(format!("P3: the copy {name} is not what it was"));
        }
    }
    Ok(())
}

/// P4: the bitmaps are those of before an operation or those of after it.
async fn check_names(image: &Image<SimDirectory>, model: &Model) -> Result<(), String> {
    let (must, may) = model.names();
    let found = image.bitmaps().await;
    for name in &must {
        if !found.iter().any(|bitmap| bitmap.name == *name) {
            return Err(format!("P4: bitmap '{name}' is gone"));
        }
    }
    for bitmap in &found {
        let name = bitmap.name.as_str();
        let known = name == BACKUP || name == USER || must.contains(name) || may.contains(name);
        if !known {
            return Err(format!("P4: bitmap '{name}' came from nowhere"));
        }
    }
    Ok(())
}

/// P1 and P2 of the users' bitmaps.
async fn check_bitmaps(
    image: &Image<SimDirectory>,
    model: &Model,
    contents: &[u8],
) -> Result<u64, String> {
    let mut excess = 0;
    for bitmap in image.bitmaps().await {
        // Only a data image that could not be synced leaves doubt; no crash does, and then every
        // file that a descriptor names is there and whole.
        if let Some(doubt) = bitmap.doubt.filter(|doubt| *doubt != Doubt::DataSyncFailed) {
            return Err(format!("P2: bitmap '{}' is doubtful: {}", bitmap.name, doubt.code()));
        }
        let bits = image.bitmap_bits(&bitmap.name).await.map_err(|error| error.to_string())?;
        let over = model.check_marks(&bitmap.name, contents, &marked(&bits))?;
        if bitmap.doubt.is_none() && over > 0 {
            return Err(format!("P2: bitmap '{}' has {over} marks of nothing", bitmap.name));
        }
        excess += over;
    }
    Ok(excess)
}

fn marked(bits: &Bits) -> impl Fn(usize) -> bool {
    |granule| bits.get(granule as u64)
}

/// P1 of the bitmap of the backups, by its points: the marks cover every difference to the point
/// that they are relative to, and the next backup restores to the disk as it is.
async fn check_chain(
    image: &Image<SimDirectory>,
    target: &Disk,
    (host, contents): (&Arc<dyn Host>, &[u8]),
) -> Result<(), String> {
    let directory = SimDirectory::new(target);
    let text = |error: qbm_core::Error| format!("P1: {error}");
    let points = backup::points(&directory).await.map_err(text)?;
    if let Some((name, error)) = points.unreadable.first() {
        return Err(format!("P4: point {name}: {error}"));
    }
    let info = image.bitmaps().await.into_iter().find(|bitmap| bitmap.name == BACKUP);
    let base = info.and_then(|bitmap| bitmap.points[0]);
    if let Some(entry) = base.and_then(|id| points.by_id(id)) {
        let reference = restored(&directory, &entry.descriptor(), host).await?;
        let bits = image.bitmap_bits(BACKUP).await.map_err(text)?;
        check_covers(BACKUP, &reference, contents, &marked(&bits))?;
    }
    let report = backup::run(image, &directory, &backup_options("last"), host, &mut |_| {})
        .await
        .map_err(|error| format!("P1: the next backup fails: {error}"))?;
    let disk = restored(&directory, &format!("{}.qbm", report.name), host).await?;
    if disk != contents {
        let granule = (0..contents.len())
            .find(|at| disk.get(*at) != contents.get(*at))
            .map(|at| at / GRANULE);
        return Err(format!("P1: the next backup restores granule {granule:?} wrongly"));
    }
    Ok(())
}

/// The disk of a point.
async fn restored(
    target: &SimDirectory,
    descriptor: &str,
    host: &Arc<dyn Host>,
) -> Result<Vec<u8>, String> {
    let text = |error: qbm_core::Error| format!("P4: point {descriptor}: {error}");
    let options = OpenOptions::new(Access::Read);
    let point = Image::open(target.clone(), descriptor, options, Arc::clone(host));
    let point = point.await.map_err(text)?;
    let disk = Disk::immediate(Medium::new(), 0);
    let out = SimDirectory::new(&disk);
    let file = out.create("out").await.map_err(|error| error.to_string())?;
    qbm_core::Storage::set_len(&file, point.size()).await.map_err(|error| error.to_string())?;
    let sink: qbm_core::Disk<'_, SimDirectory> =
        qbm_core::Disk::File { name: "out", file: &file, size: point.size() };
    backup::restore(&point, sink, Writing::ToEmpty, &mut |_| {}).await.map_err(text)?;
    Ok(disk.snapshot().read("out").expect("just written").to_vec())
}
