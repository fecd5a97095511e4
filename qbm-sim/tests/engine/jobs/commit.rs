//! Commits into what is behind a disk in use.

use qbm_core::image::OpenOptions;
use qbm_core::job::{
    CopyMode, JobControl, JobOptions, MirrorOptions, MirrorSync, Status, commit, mirror,
};
use qbm_core::{Access, Directory, Disk as Operand, Granularity, Image, Lock, Storage};
use qbm_sim::{Disk, SimDirectory, run};

use super::crash::{Cuts, Replay, seeds};
use super::guest::Guests;
use super::mirror::{assert_is_an_instant, end_it};
use super::scene::{self, BASE_IMAGE, DEPTH, MIDDLE, SOURCE, granules, open, open_locked};

/// The source and what it is committed into, both open, and the disk.
type Opened = (Image<SimDirectory>, Image<SimDirectory>, Vec<u8>);

fn open_both(disk: &Disk, seed: u64) -> Opened {
    run(disk, seed, async {
        let source = open(disk, SOURCE, Access::Write, 10).await.unwrap();
        source.lock_layer(DEPTH).await.unwrap();
        let base = open_locked(disk, BASE_IMAGE, 11).await;
        let before = granules(&source).await;
        (source, base, before)
    })
}

/// Commits what is between the source and the base, while guests write to the source.
fn take_out(seed: u64, disk: &Disk, writes: usize, mut look: impl FnMut(&Guests)) {
    let (source, base, before) = open_both(disk, seed);
    let guests = Guests::of(&before);
    let control = JobControl::alone("job", JobOptions::default());
    let job = async {
        let options = OpenOptions { shared: true, ..OpenOptions::new(Access::Read) };
        let middle = scene::open_with(disk, MIDDLE, options, 12).await.unwrap();
        let onto = (Operand::Image(&base), DEPTH - 1);
        let take_out = async || source.take_out_between(0, DEPTH).await;
        let result = commit(&middle, onto, &control, take_out).await;
        control.conclude(&result);
        result.unwrap();
    };
    let both = (&source, &source);
    guests.live((disk, both, seed), &control, (job, async {}), (writes, &mut look));
    assert_eq!(control.info().status, Status::Null);
    run(disk, seed, async {
        assert_eq!(granules(&source).await, *guests.now.borrow());
        base.close().await.unwrap();
        source.unlock_layer(DEPTH).await.unwrap();
        source.close().await.unwrap();
        let source = open(disk, SOURCE, Access::Write, 13).await.unwrap();
        assert_eq!(source.layers(), DEPTH, "what was between is gone");
        assert_eq!(granules(&source).await, *guests.now.borrow());
        source.close().await.unwrap();
    });
}

/// Commits the source, to which guests write; they go on in the base with each odd seed, and stay else.
fn go_down(seed: u64, disk: &Disk, writes: usize, mut look: impl FnMut(&Guests)) {
    let (source, base, before) = open_both(disk, seed);
    let guests = Guests::of(&before);
    let control = JobControl::alone("job", JobOptions::default());
    let completes = seed % 2 == 1;
    let options = MirrorOptions {
        sync: MirrorSync::Above(DEPTH),
        granularity: Granularity::from_bytes(1024).unwrap(),
        copy_mode: CopyMode::Background,
    };
    let job = async {
        let onto = Operand::Image(&base);
        let pivot = async || {
            source.pass_lock(DEPTH, onto).await?;
            guests.moved.set(true);
            Ok(())
        };
        let result = mirror(&source, onto, &options, &control, pivot).await;
        control.conclude(&result);
        result.unwrap();
    };
    let operator = end_it((seed, completes), &control, &guests);
    guests.live((disk, (&source, &base), seed), &control, (job, operator), (writes, &mut look));
    run(disk, seed, async {
        let base_now = granules(&base).await;
        if completes {
            assert_eq!(base_now, *guests.now.borrow(), "the disk that has moved");
            source.close().await.unwrap();
            open(disk, BASE_IMAGE, Access::Read, 14).await.expect_err("the lock has moved too");
            base.close().await.unwrap();
        } else {
            assert_eq!(granules(&source).await, *guests.now.borrow(), "the disk that has not");
            assert_is_an_instant(&base_now, &guests);
            base.close().await.unwrap();
            source.unlock_layer(DEPTH).await.unwrap();
            source.close().await.unwrap();
        }
    });
}

#[test]
fn a_commit_below_keeps_the_disk_that_guests_write_and_takes_out_what_is_between() {
    for seed in seeds(100) {
        let replay = Replay(seed, "a commit below".to_owned());
        take_out(seed, &Disk::new(scene::chain(), seed), 12, |_| ());
        drop(replay);
    }
}

#[test]
fn a_commit_of_a_disk_in_use_has_all_that_guests_wrote_in_the_base_where_they_go_on_or_not() {
    for seed in seeds(100) {
        let replay = Replay(seed, "a commit".to_owned());
        go_down(seed, &Disk::new(scene::chain(), seed), 12, |_| ());
        drop(replay);
    }
}

/// How a commit is done, with power cuts.
type Perform = fn(u64, &Disk, &mut dyn FnMut(&Guests));

/// Cuts the power at each step of so many commits; all of `looked_at` have their marks.
fn cut(count: u64, looked_at: &[&'static str], perform: Perform) -> usize {
    let mut checked = 0;
    for seed in seeds(count) {
        let replay = Replay(seed, "a commit".to_owned());
        let disk = Disk::new(scene::chain(), seed);
        let mut cuts = Cuts::of(&disk, looked_at, seed);
        perform(seed, &disk, &mut |guests| {
            if guests.moved.get() {
                // It shows what is written to the base now.
                cuts.forget(SOURCE);
                cuts.cut(&disk, guests, BASE_IMAGE);
            } else {
                cuts.cut(&disk, guests, SOURCE);
            }
        });
        checked += cuts.checked;
        drop(replay);
    }
    checked
}

#[test]
fn a_power_cut_while_it_commits_leaves_what_was_flushed_and_no_mark_lost() {
    let below = cut(8, &[BASE_IMAGE, MIDDLE, SOURCE], |seed, disk, look| {
        take_out(seed, disk, 6, look);
    });
    let active = cut(8, &[BASE_IMAGE, SOURCE], |seed, disk, look| go_down(seed, disk, 6, look));
    let enough = below > 500 && active > 500;
    assert!(std::env::var("QBM_SEED").is_ok() || enough, "{below} and {active} cuts");
}

/// Whoever reads the base keeps it from being written to; so does whoever comes at the last moment.
#[test]
fn a_base_that_somebody_else_reads_is_not_written_to() {
    let disk = Disk::immediate(scene::chain(), 1);
    run(&disk, 1, async {
        let source = open(&disk, SOURCE, Access::Write, 10).await.unwrap();
        let reader = open(&disk, BASE_IMAGE, Access::Read, 11).await.unwrap();
        source.lock_layer(DEPTH).await.unwrap_err();
        drop(reader);
        source.lock_layer(DEPTH).await.unwrap();
        open(&disk, BASE_IMAGE, Access::Read, 11).await.unwrap_err();
        source.unlock_layer(DEPTH).await.unwrap();
        open(&disk, BASE_IMAGE, Access::Write, 11).await.unwrap_err();
        let base = open_locked(&disk, BASE_IMAGE, 12).await;
        // As in the instant in which the lock is passed on.
        let reader = SimDirectory::new(&disk).open("base.raw", Access::Read).await.unwrap();
        reader.lock(Lock::Read).await.unwrap();
        source.pass_lock(DEPTH, Operand::Image(&base)).await.unwrap_err();
        base.close().await.unwrap();
        drop(reader);
        open(&disk, BASE_IMAGE, Access::Write, 13).await.expect_err("the source still reads it");
        source.close().await.unwrap();
    });
}

/// A disk over an overlay over an overlay over a base: what is deepest is taken out by a replace of the
/// descriptor of an image that is only read.
#[test]
fn what_is_further_down_is_taken_out_too() {
    let disk = Disk::immediate(scene::chain(), 1);
    run(&disk, 1, async {
        scene::create_overlay(&disk, "top.qbm", SOURCE).await;
        let top = open(&disk, "top.qbm", Access::Write, 10).await.unwrap();
        let before = granules(&top).await;
        let deepest = top.layers() - 1;
        top.lock_layer(deepest).await.unwrap();
        let base = open_locked(&disk, BASE_IMAGE, 11).await;
        let options = OpenOptions { shared: true, ..OpenOptions::new(Access::Read) };
        let middle = scene::open_with(&disk, MIDDLE, options, 12).await.unwrap();
        let control = JobControl::alone("job", JobOptions::default());
        let onto = (Operand::Image(&base), 1);
        let take_out = async || top.take_out_between(1, deepest).await;
        commit(&middle, onto, &control, take_out).await.unwrap();
        base.close().await.unwrap();
        top.unlock_layer(deepest).await.unwrap();
        assert_eq!(granules(&top).await, before);
        top.close().await.unwrap();
        let top = open(&disk, "top.qbm", Access::Write, 13).await.unwrap();
        assert_eq!((top.layers(), granules(&top).await), (deepest, before));
        top.close().await.unwrap();
    });
}
