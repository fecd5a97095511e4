//! What a write owes before its data is submitted.

use std::sync::Arc;

use super::segment::Segment;
use super::shield::Shield;
use crate::{ByteRange, Storage};

/// What is to be done before the data of a write is submitted.
#[derive(Debug)]
pub(crate) struct Duties<F> {
    /// The segments that must durably hold its marks.
    pub(crate) recording: Vec<Arc<Segment<F>>>,
    /// What must have been copied of what it writes over.
    pub(crate) shields: Vec<Arc<Shield<F>>>,
}

impl<F: Storage> Duties<F> {
    /// Whether a write to `range` need not wait: one load a word.
    pub(crate) fn are_done(&self, range: ByteRange) -> bool {
        self.recording.iter().all(|segment| segment.has_marks(range))
            && self.shields.iter().all(|shield| shield.spares(range))
    }
}

impl<F> From<Vec<Arc<Segment<F>>>> for Duties<F> {
    fn from(recording: Vec<Arc<Segment<F>>>) -> Self {
        Self { recording, shields: Vec::new() }
    }
}
