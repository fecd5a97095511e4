//! Streams of a disk in use.

use qbm_core::descriptor::{Format, ImageRef};
use qbm_core::graph::Onto;
use qbm_core::job::{JobControl, JobOptions, Status, stream};
use qbm_core::{Access, Disk as Operand};
use qbm_sim::{Disk, SimDirectory, run};

use super::crash::{Cuts, Replay, seeds};
use super::guest::Guests;
use super::scene::{self, BASE_IMAGE, SOURCE, granules, open};

/// Streams the source, whose base is another with each odd seed, or which has none then.
fn perform(seed: u64, disk: &Disk, writes: usize, mut look: impl FnMut(&Guests)) {
    let (source, base, before) = run(disk, seed, async {
        let source = open(disk, SOURCE, Access::Write, 10).await.unwrap();
        let base = open(disk, BASE_IMAGE, Access::Read, 11).await.unwrap();
        let before = granules(&source).await;
        (source, base, before)
    });
    let guests = Guests::of(&before);
    let control = JobControl::alone("job", JobOptions::default());
    let job = async {
        let backing = ImageRef { file: BASE_IMAGE.to_owned(), format: Format::Qbm };
        let onto = (seed % 2 == 1).then_some(Onto { backing, disk: Operand::Image(&base) });
        let result = stream::<_, SimDirectory>(&source, onto, &control).await;
        control.conclude(&result);
        result.unwrap();
    };
    guests.live((disk, (&source, &source), seed), &control, (job, async {}), (writes, &mut look));
    assert_eq!(control.info().status, Status::Null);
    run(disk, seed, async {
        assert_eq!(granules(&source).await, *guests.now.borrow());
        source.close().await.unwrap();
        let source = open(disk, SOURCE, Access::Read, 12).await.unwrap();
        assert_eq!(source.layers(), if seed % 2 == 1 { 2 } else { 1 }, "what was between is gone");
        assert_eq!(granules(&source).await, *guests.now.borrow());
    });
}

#[test]
fn a_stream_keeps_the_disk_that_guests_write_and_needs_no_more_what_was_between() {
    for seed in seeds(200) {
        let replay = Replay(seed, "a stream".to_owned());
        perform(seed, &Disk::new(scene::chain(), seed), 12, |_| ());
        drop(replay);
    }
}

#[test]
fn a_power_cut_while_it_streams_leaves_what_was_flushed_and_no_mark_lost() {
    let mut checked = 0;
    for seed in seeds(12) {
        let replay = Replay(seed, "a stream".to_owned());
        let disk = Disk::new(scene::chain(), seed);
        let mut cuts = Cuts::of(&disk, &[SOURCE], seed);
        perform(seed, &disk, 6, |guests| cuts.cut(&disk, guests, SOURCE));
        checked += cuts.checked;
        drop(replay);
    }
    assert!(std::env::var("QBM_SEED").is_ok() || checked > 500, "{checked} cuts");
}
