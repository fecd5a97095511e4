//! The crash rig: the engine at work on a simulated disk, cut at every step, recovered, checked.
//!
//! A case is a seed. It begins with an image with one backup, lets writers and an operator work on it
//! at once, and takes crash images when something may have changed on the medium. Each is recovered
//! and held against the [`Model`]: docs/guarantees.md, P1 to P4. At some step the process is killed or
//! the power cut for good, and the next one opens what is left, until three have crashed.

mod case;
mod check;
mod jobs;
mod model;
mod operation;
mod phase;
mod script;
mod shrink;
mod small;
mod subject;
mod workload;

use std::sync::Arc;

use fastrand::Rng;
use qbm_core::backup::BackupOptions;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Granularity, Host, Image};

use crate::{Disk, Harms, Loss, Medium, SimDirectory};

pub use case::{Case, Family};
pub use model::Model;
pub use operation::{Operation, Request};
pub use script::{Step, run_script};
pub use shrink::{Finding, finding, shrink};
pub use small::{run_workload, workloads};
pub use subject::Subject;

/// The descriptor of the image under test.
pub(crate) const IMAGE: &str = "vm.qbm";
/// Its data image.
pub(crate) const DATA: &str = "vm.raw";
/// The bitmap that its backups use.
pub(crate) const BACKUP: &str = "backup";
/// The bitmap of a user, which is there at first.
pub(crate) const USER: &str = "user";
/// Another one, which comes and goes.
pub(crate) const OTHER: &str = "other";
/// The size of its disk at first: sixteen granules and a part of one.
pub(crate) const SIZE: usize = 16 * 512 + 100;
/// The largest size that its disk gets.
pub const MAX_SIZE: usize = SIZE + 3 * 512;

/// What a number of cases did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Cases run.
    pub cases: u64,
    /// Crash images recovered and checked.
    pub images: u64,
    /// Processes that were killed, or had the power cut, before the next one.
    pub crashes: u64,
    /// Points restored and compared byte by byte.
    pub restores: u64,
    /// Errors injected.
    pub errors: u64,
    /// Operations that happened after their future was dropped.
    pub late: u64,
    /// Mirrors that came to a good end.
    pub mirrors: u64,
    /// Streams that did.
    pub streams: u64,
    /// Bitmaps that were made persistent, or so no longer.
    pub sets: u64,
    /// What was done to the media and the processes.
    pub harms: Harms,
    /// Granules marked that nobody wrote, over all images without a doubt: writes under way.
    pub excess: u64,
}

impl Count {
    /// The sum of both.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.images += other.images;
        self.crashes += other.crashes;
        self.restores += other.restores;
        self.errors += other.errors;
        self.late += other.late;
        self.mirrors += other.mirrors;
        self.streams += other.streams;
        self.sets += other.sets;
        self.harms.add(&other.harms);
        self.excess += other.excess;
    }
}

/// Both disks of a case: that of the image, and that of the backups.
#[derive(Clone, Debug)]
pub(crate) struct Media {
    pub(crate) source: Medium,
    pub(crate) target: Medium,
}

impl Media {
    /// Both as they are now, with what is under way.
    pub(crate) fn of(source: &Disk, target: &Disk) -> Self {
        Self { source: source.snapshot(), target: target.snapshot() }
    }

    /// What a power loss leaves of them.
    pub(crate) fn power_loss(
        &self,
        (of_source, of_target): (Loss, Loss),
        rng: &mut Rng,
        count: &mut Count,
    ) -> Self {
        Self {
            source: self.source.power_loss(of_source, rng, &mut count.harms),
            target: self.target.power_loss(of_target, rng, &mut count.harms),
        }
    }
}

/// Runs the case `seed` of `family`.
///
/// # Panics
///
/// If a promise is broken; the message says which.
pub fn run_case(family: Family, seed: u64) -> Count {
    Case::draw(family, seed).run()
}

pub(crate) fn backup_options(name: &str) -> BackupOptions {
    BackupOptions {
        bitmap: BACKUP.to_owned(),
        granularity: Granularity::MIN,
        name: name.to_owned(),
        full: false,
        require_incremental: false,
    }
}

pub(crate) async fn open(
    disk: &Disk,
    host: &Arc<dyn Host>,
) -> qbm_core::Result<Image<SimDirectory>> {
    let options = OpenOptions::new(Access::Write);
    Image::open(SimDirectory::new(disk), IMAGE, options, Arc::clone(host)).await
}

/// The result of a future that never waits, as on an immediate disk.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("no progress: an operation waits for nobody"),
    }
}
