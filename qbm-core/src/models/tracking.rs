//! What the models of tracking have in common: a segment over a file of a model.

use std::sync::Arc;

use super::file::File;
use crate::Granularity;
use crate::track::segment::{Segment, SegmentFile, Turn};

/// A segment of `granules` granules, without marks.
pub(super) fn segment(granules: u64) -> Arc<Segment<File>> {
    segment_over(granules, File::new)
}

/// The same over a file that `make` makes.
pub(super) fn segment_over(granules: u64, make: fn(&[u8]) -> File) -> Arc<Segment<File>> {
    let bytes = usize::try_from(granules.div_ceil(8)).expect("a small segment");
    let file = SegmentFile { name: "bits".to_owned(), file: make(&vec![0; bytes]) };
    let size = granules * Granularity::MIN.bytes();
    Arc::new(Segment::new("bitmap", Granularity::MIN, size, file))
}

/// What a write does before its data: marks `granule`, and returns when the medium holds it.
pub(super) async fn make_durable(segment: &Segment<File>, granule: u64) {
    let granules = granule..granule + 1;
    if !segment.mark(&granules) {
        loop {
            match segment.turn(&granules, 0).await {
                Turn::Durable => break,
                Turn::Failed(what) => panic!("{what}"),
                Turn::Lead(mut lead) => {
                    lead.commit().await.expect("the medium is sound");
                    let covered = segment.is_durable(&granules);
                    assert!(covered, "a commit leaves out granule {granule}, marked before it");
                }
            }
        }
    }
    assert!(is_on_medium(segment, granule), "granule {granule} is not on the medium");
}

/// Whether a power cut would leave the mark of `granule`.
pub(super) fn is_on_medium(segment: &Segment<File>, granule: u64) -> bool {
    let byte = usize::try_from(granule / 8).expect("a small segment");
    segment.file().file.durable()[byte] & 1 << (granule % 8) != 0
}
