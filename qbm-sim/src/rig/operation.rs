//! What is done to an image under test, one thing at a time: by the rig as its seed says, and by the
//! fuzzer as its bytes say.

use std::ops::Range;

use fastrand::Rng;
use qbm_core::image::Persistence;
use qbm_core::job::CopyMode;
use qbm_core::{Id, Persist};

use super::MAX_SIZE;
use super::model::GRANULE;

/// One request of a guest, or one operation on bitmaps, points or the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Everything written so far is to be durable.
    Flush,
    /// A request that changes bytes of the disk; what lies past its end is left out.
    Change {
        /// Which bytes.
        range: Range<usize>,
        /// What becomes of them.
        what: Request,
        /// When a write is to be durable.
        persist: Persist,
    },
    /// A backup under this name.
    BackUp(String),
    /// The marks since the last backup, found anew.
    Rebuild,
    /// A point is begun and given up.
    GiveUp(Id),
    /// The disk gets this size in bytes, 1 to [`MAX_SIZE`].
    Resize(usize),
    /// The second bitmap comes.
    Add,
    /// The second bitmap comes, in memory only.
    AddInMemory,
    /// The second bitmap is persistent from now on, or in memory only.
    Set(Persistence),
    /// The second bitmap goes.
    Remove,
    /// The user's bitmap begins anew.
    Clear,
    /// The user's bitmap records.
    Enable,
    /// The user's bitmap records no more.
    Disable,
    /// The marks of the second bitmap are marks of the user's too.
    Merge,
    /// The disk is mirrored.
    Mirror {
        /// Whether writes may get ahead.
        copy_mode: CopyMode,
        /// Whether the disk moves to the copy: nobody writes here any more.
        moves: bool,
    },
    /// What shows through an overlay comes up into it.
    Stream,
    /// Somebody else opens the image, which is in use.
    OpenAgain,
}

/// What a request makes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Others.
    Write,
    /// Zeroes.
    Zeroes,
    /// Zeroes that keep their space.
    FullZeroes,
    /// Zeroes, or what they were.
    Discard,
}

impl Operation {
    /// What a writer does next to a disk of `size` bytes.
    pub(crate) fn draw_request(rng: &mut Rng, size: usize) -> Self {
        let what = match rng.u8(..16) {
            0..3 => return Self::Flush,
            3 => Request::Zeroes,
            4 => Request::Discard,
            _ => Request::Write,
        };
        let range = some_range(rng, size);
        let persist = if rng.u8(..8) == 0 { Persist::Now } else { Persist::Later };
        Self::Change { range, what, persist }
    }

    /// What an operator does in turn `turn`.
    pub(crate) fn draw_operator(rng: &mut Rng, turn: u32) -> Self {
        match rng.u8(..12) {
            0..4 => Self::BackUp(format!("{turn}-{}", rng.u32(..))),
            4 => Self::GiveUp(Id(rng.u128(..))),
            5 => Self::Clear,
            6 => Self::Add,
            7 => Self::Enable,
            8 if rng.bool() => Self::Remove,
            8 => Self::Disable,
            9 => Self::Resize(MAX_SIZE - rng.usize(..6) * 300),
            10 => Self::Rebuild,
            _ => Self::Merge,
        }
    }

    /// The same as a writer does, but half of the zeroes keep their space.
    pub(crate) fn draw_wide_request(rng: &mut Rng, size: usize) -> Self {
        match Self::draw_request(rng, size) {
            Self::Change { range, what: Request::Zeroes, persist } if rng.bool() => {
                Self::Change { range, what: Request::FullZeroes, persist }
            }
            request => request,
        }
    }

    /// The same as an operator does, but mostly with bitmaps that come and go in memory.
    pub(crate) fn draw_wide_operator(rng: &mut Rng, turn: u32) -> Self {
        match rng.u8(..9) {
            // There is something to be made persistent then.
            _ if turn == 0 => Self::AddInMemory,
            0..3 => Self::Set(Persistence::Persistent),
            3 | 4 => Self::Set(Persistence::InMemory),
            5 => Self::Merge,
            6 => Self::OpenAgain,
            _ => Self::draw_operator(rng, turn),
        }
    }

    /// A job beside all others.
    pub(crate) fn draw_job(rng: &mut Rng) -> Self {
        if rng.u8(..4) == 0 {
            return Self::Stream;
        }
        let copy_mode = if rng.bool() { CopyMode::Background } else { CopyMode::WriteBlocking };
        Self::Mirror { copy_mode, moves: rng.bool() }
    }
}

/// Mostly one granule of few, so that writers meet; sometimes unaligned, across several.
fn some_range(rng: &mut Rng, size: usize) -> Range<usize> {
    let start = match rng.u8(..4) {
        0 => rng.usize(..size - 1),
        1 => (size - 1) / GRANULE * GRANULE,
        _ => rng.usize(..4) * GRANULE,
    };
    let length = if rng.u8(..4) == 0 { rng.usize(1..3 * GRANULE) } else { GRANULE };
    start..(start + length).min(size)
}
