//! Jobs on the image of a case: a mirror, which leaves a copy or takes the disk along, and a stream.

use std::future::poll_fn;
use std::pin::pin;

use qbm_core::job::{
    CopyMode, JobControl, JobOptions, MirrorOptions, MirrorSync, Status, mirror, stream,
};
use qbm_core::{Directory, Granularity, Result, Storage};

use super::subject;
use super::workload::Site;
use crate::{SimDirectory, SimFile};

/// Mirrors the disk to a file beside it, and ends that once it is ready. An error is fine: then the
/// source goes on as if nothing had been.
pub(super) async fn mirror_disk(site: Site<'_>, copy_mode: CopyMode, moves: bool) {
    let (directory, name) = (SimDirectory::new(site.disk), site.host.fresh_id().to_string());
    let size = site.image.size();
    let Ok(file) = new_file(&directory, &name, size).await else { return };
    let target: qbm_core::Disk<'_, SimDirectory> =
        qbm_core::Disk::File { name: &name, file: &file, size };
    let options =
        MirrorOptions { sync: MirrorSync::Full, granularity: Granularity::MIN, copy_mode };
    let control = JobControl::alone("mirror", JobOptions::default());
    let contents = || site.disk.snapshot().read(&name).expect("it was created").to_vec();
    let pivot = async || {
        assert!(subject::contents(site.image).await? == contents(), "P5: the disk has not moved");
        Ok(())
    };
    let job = mirror(site.image, target, &options, &control, pivot);
    let mut began = None;
    let ask = || {
        // What was written before is in the copy.
        began = Some(site.model.borrow_mut().begin_instant());
        let accepted = if moves { control.complete() } else { control.cancel_gently() };
        accepted.expect("it is ready");
    };
    let done = ended(job, &control, ask).await;
    control.conclude(&done);
    if let (Ok(()), Some(began)) = (done, began) {
        let (mut model, contents) = (site.model.borrow_mut(), contents());
        model.end_instant(&began).check(0, &contents);
        model.keep_copy(name, contents);
    }
}

/// An empty file whose name is durable.
async fn new_file(directory: &SimDirectory, name: &str, size: u64) -> std::io::Result<SimFile> {
    let file = directory.create(name).await?;
    file.set_len(size).await?;
    directory.sync().await?;
    Ok(file)
}

/// Runs `job` to its end, for which `ask` asks it once it is ready.
async fn ended(
    job: impl Future<Output = Result<()>>,
    control: &JobControl,
    ask: impl FnOnce(),
) -> Result<()> {
    let (mut job, mut ask) = (pin!(job), Some(ask));
    poll_fn(|context| {
        loop {
            let polled = job.as_mut().poll(context);
            let is_ready = polled.is_pending() && control.info().status == Status::Ready;
            match ask.take_if(|_| is_ready) {
                Some(ask) => ask(),
                None => return polled,
            }
        }
    })
    .await
}

/// Streams an overlay; a flat image refuses. The disk stays what it is.
pub(super) async fn stream_disk(site: Site<'_>) {
    let control = JobControl::alone("stream", JobOptions::default());
    let done = stream::<_, SimDirectory>(site.image, None, &control).await;
    control.conclude(&done);
    site.model.borrow_mut().streams += u64::from(done.is_ok());
}
