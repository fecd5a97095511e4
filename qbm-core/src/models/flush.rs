//! Flushes: what returned before one is durable after it, whoever did the sync.

use std::sync::Arc;

use super::disk::{Disk, GRANULE, data};
use super::explore::{Model, block_on, join, spawn};
use super::file::File;
use super::requests::write;
use crate::mutants::Mutant;
use crate::{Buffer, Error, Image, Persist};

/// Writes to `granule` and flushes; says whether the flush succeeded, and then it is true.
async fn write_and_flush(image: &Image<Disk>, data: &File, granule: u64) -> bool {
    let offset = granule * GRANULE;
    let buffer = Buffer::from_slice(&[2]);
    image.write(offset, buffer, Persist::Later).await.expect("it is marked");
    match image.flush().await {
        Ok(()) => {
            let byte = usize::try_from(offset).expect("a small disk");
            assert_eq!(data.durable()[byte], 2, "granule {granule} is not on the medium");
            true
        }
        Err(Error::DataSyncFailed) => false,
        Err(error) => panic!("{error}"),
    }
}

/// An image whose granules are marked, so that writes to them do not wait.
fn marked(data: &File) -> Arc<Image<Disk>> {
    let image = Disk::new(data).open();
    block_on(async {
        write(&image, 0).await.expect("the medium is sound");
        write(&image, 1).await.expect("the medium is sound");
    });
    image
}

#[test]
fn a_flush_covers_every_write_that_returned_before_it() {
    let planted = &[Mutant::FlushJoins];
    Model { preemptions: Some(3), floor: 6_500, planted }.explore(|| {
        let data = data(File::new);
        let image = marked(&data);
        let flushed = join([0, 1].map(|granule| {
            let (image, data) = (Arc::clone(&image), data.clone());
            spawn(move || block_on(write_and_flush(&image, &data, granule)))
        }));
        assert_eq!(flushed, [true, true], "the medium is sound");
    });
}

#[test]
fn nobody_relies_on_a_sync_after_one_that_failed() {
    let planted = &[Mutant::FlushTogether];
    Model { preemptions: Some(3), floor: 7_000, planted }.explore(|| {
        let data = data(File::new);
        let image = marked(&data);
        data.fail_a_sync();
        let flushed = join([0, 1].map(|granule| {
            let (image, data) = (Arc::clone(&image), data.clone());
            spawn(move || block_on(write_and_flush(&image, &data, granule)))
        }));
        assert_eq!(flushed, [false, false], "a failed sync is not told to all");
        assert!(block_on(image.flush()).is_err(), "a later flush knows of the failure too");
    });
}
