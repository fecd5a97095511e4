//! Holds: nothing changes while a job ends, and then every write is made where the disk is.

use std::sync::Arc;

use super::disk::{Disk, data};
use super::explore::{Model, block_on, join, spawn};
use super::file::File;
use super::watch::{WRITTEN, read, watch, write};
use crate::Error;
use crate::mutants::Mutant;
use crate::track::hold::Released;

#[test]
fn a_held_disk_stands_still_and_every_write_is_where_it_goes_on() {
    let planted = &[Mutant::MovedLate, Mutant::RoundUndrained, Mutant::LostWakeUp];
    Model { preemptions: Some(3), floor: 10_000, planted }.explore_each(0..2, |case| {
        let how = [Released::Here, Released::Elsewhere][case];
        let data = data(File::new);
        let image = Disk::new(&data).open();
        let writer = {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image)))
        };
        let moved = block_on(async {
            let mut watching = watch(&image, &Arc::default(), false).await;
            let round = watching.hold().await;
            let copy = read(&image).await;
            drop(round);
            assert_eq!(read(&image).await, copy, "a write goes on while the disk is held");
            watching.end(how).await;
            copy
        });
        let [written] = join([writer]);
        match (how, written) {
            (_, Err(Error::Moved { buffer })) => {
                assert_eq!(how, Released::Elsewhere, "the disk is where it was");
                assert_eq!(buffer.as_deref(), Some(&[WRITTEN][..]), "to be made elsewhere");
                assert_eq!(data.now()[0], 0, "a write is made in both places");
            }
            (Released::Here, written) => {
                written.expect("the medium is sound");
                assert_eq!(data.now()[0], WRITTEN, "a write is lost");
            }
            (Released::Elsewhere, written) => {
                written.expect("the medium is sound");
                assert_eq!(moved, WRITTEN, "a write is left where the disk was");
            }
        }
        let later = block_on(write(&image));
        assert_eq!(later.is_ok(), how == Released::Here, "{later:?}");
    });
}
