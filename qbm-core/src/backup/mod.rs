//! Backup: points in time of an image, each of which is an image itself.
//!
//! A target is a directory. A full point is a raw file and a descriptor; an incremental one is a
//! sparse raw file with an allocation bitmap, and its backing image is the point before. So
//! whatever works on an image works on a point, and no catalogue has to agree with anything.
//!
//! # What a crash leaves
//!
//! The files of a point are durable before its descriptor is, and its descriptor before the
//! source forgets a mark. A crash before the point's descriptor leaves orphans in the target and
//! every mark in the source; a crash after it leaves a point that the next backup recognises by
//! its id.

mod contents;
mod digests;
mod points;
mod reference;
mod restore;
mod run;
mod verify;

pub use points::{PointEntry, Points, points};
pub use reference::{Reference, reference};
pub use restore::{Restored, restore};
pub use run::{
    BackupOptions, BackupReport, Estimate, FullReason, Kind, estimate, make_ready, new_point, run,
    run_live, store,
};
pub use verify::{Finding, MAX_AREAS, verify};

pub use crate::copy::Progress;

use crate::descriptor::MAX_BLOCK;

/// Bytes that are read and stored at a time: a multiple of what has a digest.
const WINDOW: u64 = MAX_BLOCK;
