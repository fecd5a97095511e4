//! Guests, who write to a disk while a job is at it, and know what they may find after a crash.

use std::cell::{Cell, RefCell};

use fastrand::Rng;
use qbm_core::job::JobControl;
use qbm_core::{ByteRange, Error, Image, Persist, Unmap};
use qbm_sim::{Disk, Executor, SimDirectory, Step};

use super::scene::{GRANULE, GRANULE_BYTES, GRANULES, bytes, clock};

/// How many guests share the disk, granule by granule.
pub(crate) const GUESTS: usize = 2;

/// The disk in use, and where it may move.
type Images<'a> = (&'a Image<SimDirectory>, &'a Image<SimDirectory>);

/// What the guests know.
pub(crate) struct Guests {
    /// The values that a crash may leave in each granule.
    pub(crate) allowed: RefCell<Vec<Vec<u8>>>,
    /// What the disk holds.
    pub(crate) now: RefCell<Vec<u8>>,
    /// What it held for each guest after each of its writes.
    pub(crate) history: RefCell<[Vec<Vec<u8>>; GUESTS]>,
    /// Whether the disk has moved to the target.
    pub(crate) moved: Cell<bool>,
    /// How many of them are at it.
    pub(crate) left: Cell<usize>,
}

impl Guests {
    pub(crate) fn of(disk: &[u8]) -> Self {
        Self {
            allowed: RefCell::new(disk.iter().map(|value| vec![*value]).collect()),
            now: RefCell::new(disk.to_vec()),
            history: RefCell::new([vec![disk.to_vec()], vec![disk.to_vec()]]),
            moved: Cell::new(false),
            left: Cell::new(GUESTS),
        }
    }

    /// Asserts that `disk` of the image `name` holds no value that a crash may not leave.
    pub(crate) fn assert_found(&self, name: &str, disk: &[u8]) {
        for (granule, now) in disk.chunks(GRANULE_BYTES).enumerate() {
            let allowed = &self.allowed.borrow()[granule];
            let lost = now.iter().find(|byte| !allowed.contains(byte));
            assert!(lost.is_none(), "{name}: granule {granule}: {lost:?} of {allowed:?}");
        }
    }

    /// Runs a job and its operator while all guests write, each so often; `look` is called after each step.
    pub(crate) fn live<'a>(
        &'a self,
        (disk, images, seed): (&Disk, Images<'a>, u64),
        control: &'a JobControl,
        (job, operator): (impl Future<Output = ()> + 'a, impl Future<Output = ()> + 'a),
        (writes, look): (usize, &mut dyn FnMut(&Self)),
    ) {
        let over = Cell::new(false);
        let mut executor = Executor::new(&[disk], seed + 2);
        executor.spawn("job", async {
            job.await;
            over.set(true);
        });
        executor.spawn("clock", clock(control, &over));
        executor.spawn("operator", operator);
        for guest in 0..GUESTS {
            let rng = Rng::with_seed(seed + 3 + guest as u64);
            executor.spawn("guest", self.write(guest, images, (writes, rng)));
        }
        while executor.step() == Step::Moved {
            look(self);
        }
    }

    /// The granules of `guest`.
    pub(crate) fn granules_of(guest: usize) -> impl Iterator<Item = usize> {
        (guest..GRANULES).step_by(GUESTS)
    }

    /// One guest: writes and zeroes its own granules, and flushes now and then.
    async fn write(
        &self,
        guest: usize,
        (source, target): Images<'_>,
        (writes, mut rng): (usize, Rng),
    ) {
        for number in 0..writes {
            let granule = rng.usize(..GRANULES / GUESTS) * GUESTS + guest;
            let value =
                if rng.u8(..4) == 0 { 0 } else { u8::try_from(10 + guest * 100 + number).unwrap() };
            self.allowed.borrow_mut()[granule].push(value);
            loop {
                let image = if self.moved.get() { target } else { source };
                let written = put(image, granule, value, rng.bool()).await;
                match written {
                    Err(Error::Moved { .. }) => assert!(self.moved.get(), "moved before the pivot"),
                    written => break written.unwrap(),
                }
            }
            self.now.borrow_mut()[granule] = value;
            self.history.borrow_mut()[guest].push(self.now.borrow().clone());
            if rng.u8(..3) == 0 {
                let image = if self.moved.get() { target } else { source };
                image.flush().await.unwrap();
                let now = self.now.borrow();
                let mut allowed = self.allowed.borrow_mut();
                Self::granules_of(guest).for_each(|own| allowed[own] = vec![now[own]]);
            }
        }
        self.left.set(self.left.get() - 1);
    }
}

async fn put(
    image: &Image<SimDirectory>,
    granule: usize,
    value: u8,
    by_write: bool,
) -> Result<(), Error> {
    let offset = granule as u64 * GRANULE;
    if value == 0 && !by_write {
        return image.write_zeroes(ByteRange::new(offset, GRANULE), Unmap::Allowed).await;
    }
    let written = image.write(offset, bytes(value), Persist::Later).await;
    if let Err(Error::Moved { buffer }) = &written {
        assert!(buffer.as_ref().unwrap().iter().all(|byte| *byte == value), "it is given back");
    }
    written.map(drop)
}
