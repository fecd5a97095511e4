//! Mirrors of a disk in use.

use fastrand::Rng;
use futures_util::future::join;
use qbm_core::job::{CopyMode, JobControl, JobOptions, MirrorOptions, MirrorSync, Status, mirror};
use qbm_core::{Access, Disk as Operand, Granularity, Image, Result};
use qbm_sim::{Disk, Executor, Medium, SimDirectory, run};

use super::crash::{Cuts, Replay, seeds};
use super::guest::Guests;
use super::scene::{self, GRANULE, SIZE, SOURCE, TARGET, granules, open, turn};

/// What is mirrored, and how.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    overlay: bool,
    sync: MirrorSync,
    copy_mode: CopyMode,
    /// Whether the disk moves to the target at the end.
    completes: bool,
}

impl Case {
    fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let overlay = rng.bool();
        let top = overlay && rng.bool();
        Self {
            seed,
            overlay,
            sync: if top { MirrorSync::Above(1) } else { MirrorSync::Full },
            copy_mode: if rng.bool() { CopyMode::Background } else { CopyMode::WriteBlocking },
            completes: rng.u8(..4) > 0,
        }
    }

    fn medium(self) -> Medium {
        scene::scene(self.overlay, self.sync != MirrorSync::Full)
    }
}

/// The whole life of the job: ready, then ended as the case says.
async fn job(
    case: Case,
    control: &JobControl,
    (source, target): (&Image<SimDirectory>, &Image<SimDirectory>),
    guests: &Guests,
) -> Result<()> {
    let options = MirrorOptions {
        sync: case.sync,
        granularity: Granularity::from_bytes(1024).unwrap(),
        copy_mode: case.copy_mode,
    };
    let pivot = async || {
        guests.moved.set(true);
        Ok(())
    };
    let result = mirror(source, Operand::Image(target), &options, control, pivot).await;
    control.conclude(&result);
    result
}

/// Ends the job once it is ready, some guest writes after that.
pub(crate) async fn end_it((seed, completes): (u64, bool), control: &JobControl, guests: &Guests) {
    let mut rng = Rng::with_seed(seed + 1);
    loop {
        let status = control.info().status;
        let done = guests.left.get() == 0 || rng.u8(..40) == 0;
        if status == Status::Ready && done {
            let ended = if completes { control.complete() } else { control.cancel_gently() };
            return ended.unwrap();
        }
        turn().await;
    }
}

/// Runs `case` on `disk`, and calls `look` after each step with the guests, each of which writes so often.
fn perform(case: Case, disk: &Disk, writes: usize, mut look: impl FnMut(&Guests)) {
    let (source, target, before) = run(disk, case.seed, async {
        let source = open(disk, SOURCE, Access::Write, 10).await.unwrap();
        let target = open(disk, TARGET, Access::Write, 11).await.unwrap();
        let before = granules(&source).await;
        (source, target, before)
    });
    let guests = Guests::of(&before);
    let control = JobControl::alone("job", JobOptions::default());
    let both = (&source, &target);
    let job = async { job(case, &control, both, &guests).await.unwrap() };
    let operator = end_it((case.seed, case.completes), &control, &guests);
    guests.live((disk, both, case.seed), &control, (job, operator), (writes, &mut look));
    run(disk, case.seed, async {
        let (source_now, target_now) = (granules(&source).await, granules(&target).await);
        if case.completes {
            assert_eq!(target_now, *guests.now.borrow(), "the disk that has moved");
        } else {
            assert_eq!(source_now, *guests.now.borrow(), "the disk that has not");
            assert_is_an_instant(&target_now, &guests);
        }
        source.close().await.unwrap();
        target.close().await.unwrap();
    });
}

/// Asserts that `copy` is what the disk was between two writes of each guest.
pub(crate) fn assert_is_an_instant(copy: &[u8], guests: &Guests) {
    for (guest, history) in guests.history.borrow().iter().enumerate() {
        let own = |disk: &[u8]| Guests::granules_of(guest).map(|own| disk[own]).collect::<Vec<_>>();
        let found = history.iter().any(|instant| own(instant) == own(copy));
        assert!(found, "no instant of guest {guest}: {copy:?}");
    }
}

#[test]
fn a_mirror_has_all_that_guests_wrote_when_the_disk_moves_to_it_or_stays() {
    for seed in seeds(400) {
        let case = Case::of(seed);
        let replay = Replay(seed, format!("{case:?}"));
        perform(case, &Disk::new(case.medium(), seed), 12, |_| ());
        drop(replay);
    }
}

/// A mirror that began while a resize was under way looked at the size too early: it copied the disk as
/// it had been, and moved it so, without its end.
#[test]
fn a_mirror_beside_a_resize_has_all_of_the_disk_or_refuses() {
    let (mut moved, mut refused) = (0, 0);
    for seed in seeds(60) {
        let replay = Replay(seed, "a mirror beside a resize".to_owned());
        let disk = Disk::new(scene::scene(false, false), seed);
        let (source, target) = run(&disk, seed, async {
            let source = open(&disk, SOURCE, Access::Write, 10).await.unwrap();
            (source, open(&disk, TARGET, Access::Write, 11).await.unwrap())
        });
        let mut executor = Executor::new(&[&disk], seed);
        executor.spawn("resize", async {
            // Refused once the mirror has begun.
            let _resized = source.resize(SIZE + GRANULE).await;
        });
        executor.spawn("job", async {
            let control = JobControl::alone("job", JobOptions::default());
            let options = MirrorOptions {
                sync: MirrorSync::Full,
                granularity: Granularity::MIN,
                copy_mode: CopyMode::Background,
            };
            let pivot = async || {
                assert_eq!(granules(&source).await, granules(&target).await);
                Ok(())
            };
            let job = mirror(&source, Operand::Image(&target), &options, &control, pivot);
            let complete = async {
                while control.complete().is_err() && control.info().status != Status::Null {
                    turn().await;
                }
            };
            let ended = async {
                let result = job.await;
                control.conclude(&result);
                result
            };
            match join(ended, complete).await.0 {
                Ok(()) => moved += 1,
                Err(error) => {
                    assert!(error.to_string().contains("and the target"), "{error}");
                    refused += 1;
                }
            }
        });
        executor.finish();
        drop(executor);
        drop(replay);
    }
    assert!(std::env::var("QBM_SEED").is_ok() || moved.min(refused) > 5, "{moved} {refused}");
}

#[test]
fn a_power_cut_leaves_what_was_flushed_on_the_disk_that_is_in_use_and_no_mark_lost() {
    let mut checked = 0;
    for seed in seeds(24) {
        let case = Case::of(seed);
        let replay = Replay(seed, format!("{case:?}"));
        let disk = Disk::new(case.medium(), seed);
        let mut cuts = Cuts::of(&disk, &[SOURCE, TARGET], seed);
        perform(case, &disk, 6, |guests| {
            let used = if guests.moved.get() { TARGET } else { SOURCE };
            cuts.cut(&disk, guests, used);
        });
        checked += cuts.checked;
        drop(replay);
    }
    assert!(std::env::var("QBM_SEED").is_ok() || checked > 2000, "{checked} cuts");
}
