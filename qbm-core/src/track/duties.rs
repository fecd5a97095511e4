//! What a write owes before its data is submitted.

use std::sync::Arc;

use super::hold::Hold;
use super::segment::Segment;
use super::shield::Shield;
use super::watch::Watch;
use crate::{ByteRange, Storage};

/// What is to be done before the data of a write is submitted.
#[derive(Debug)]
pub(crate) struct Duties<F> {
    /// The segments that must durably hold its marks.
    pub(crate) recording: Vec<Arc<Segment<F>>>,
    /// What must have been copied of what it writes over.
    pub(crate) shields: Vec<Arc<Shield<F>>>,
    /// Who must have been told of it.
    pub(crate) watches: Vec<Arc<Watch>>,
    /// What must be over.
    pub(crate) holds: Vec<Arc<Hold>>,
}

// Not derived: a file need not be `Clone` for a reference to its segment to be.
impl<F> Clone for Duties<F> {
    fn clone(&self) -> Self {
        let Self { recording, shields, watches, holds } = self;
        let (recording, shields) = (recording.clone(), shields.clone());
        Self { recording, shields, watches: watches.clone(), holds: holds.clone() }
    }
}

impl<F: Storage> Duties<F> {
    /// Whether a write to `range` need not wait: one load a word.
    pub(crate) fn are_done(&self, range: ByteRange) -> bool {
        self.recording.iter().all(|segment| segment.has_marks(range))
            && self.shields.iter().all(|shield| shield.spares(range))
            && self.watches.iter().all(|watch| watch.knows(range))
            && self.holds.iter().all(|hold| hold.is_released())
    }
}

impl<F> Duties<F> {
    /// Tells of a write to `range`.
    pub(crate) fn tell(&self, range: ByteRange) {
        self.watches.iter().for_each(|watch| watch.tell(range));
    }

    /// Those who have to have copied the write before it returns.
    pub(crate) fn followers(&self) -> Vec<Arc<Watch>> {
        self.watches.iter().filter(|watch| watch.is_blocking()).cloned().collect()
    }
}

impl<F> From<Vec<Arc<Segment<F>>>> for Duties<F> {
    fn from(recording: Vec<Arc<Segment<F>>>) -> Self {
        Self { recording, shields: Vec::new(), watches: Vec::new(), holds: Vec::new() }
    }
}
