//! Guest requests on an open image: no data before its marks, and no mark that is not one.

use std::sync::Arc;

use super::disk::{Disk, GRANULE, data};
use super::explore::{Model, block_on, join, spawn};
use super::file::File;
use crate::mutants::Mutant;
use crate::{Buffer, Image, Persist};

/// Writes to `granule` of `image`.
pub(super) async fn write(image: &Image<Disk>, granule: u64) -> crate::Result<()> {
    let buffer = Buffer::from_slice(&[1]);
    image.write(granule * GRANULE, buffer, Persist::Later).await.map(drop)
}

#[test]
fn no_data_is_written_before_its_marks_are_durable() {
    let planted = &[Mutant::DataFirst, Mutant::Follower, Mutant::NoSync];
    Model { preemptions: Some(2), floor: 25_000, planted }.explore_each(0..2, |other| {
        let disk = Disk::new(&data(File::new));
        let image = disk.open();
        let writers = [0, other as u64].map(|granule| {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, granule)).expect("the medium is sound"))
        });
        join(writers);
        let marks = disk.marks_after_power_cut();
        assert_eq!(marks[0].1, if other == 0 { 1 } else { 3 }, "the marks of the two writes");
    });
}
