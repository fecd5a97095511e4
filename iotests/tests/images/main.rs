//! The verbs that copy, measure and compare disks, beside those of qemu-img on the same bytes.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bitmaps;
mod copies;
mod graph;
mod measures;
mod numbered;
mod scene;
mod wrapper;
