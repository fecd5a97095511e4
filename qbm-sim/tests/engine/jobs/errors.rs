//! Jobs that meet errors, or disks that do not fit.

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use qbm_core::Storage as _;
use qbm_core::job::{
    Action, CopyMode, Group, IoStatus, JobControl, JobEvent, JobOptions, MirrorOptions, MirrorSync,
    OnError, Side, Status, mirror,
};
use qbm_core::{Access, Directory as _, Disk as Operand, Granularity, Image, Persist, Result};
use qbm_sim::{Disk, Executor, Fault, Kind, SimDirectory, run};

use super::scene::{self, SOURCE, TARGET, bytes, clock, granules, open, turn};

/// Source and target on media of their own, so that either can fail.
struct Scene {
    disks: [Disk; 2],
    images: [Image<SimDirectory>; 2],
}

impl Scene {
    fn new() -> Self {
        let disks = [1, 2].map(|seed| Disk::immediate(scene::scene(false, false), seed));
        let source = run(&disks[0], 1, open(&disks[0], SOURCE, Access::Write, 10)).unwrap();
        let target = run(&disks[1], 1, open(&disks[1], TARGET, Access::Write, 11)).unwrap();
        Self { disks, images: [source, target] }
    }

    /// Mirrors and completes the job as soon as it is ready; resumes it whenever it has stopped. Returns
    /// how it ended, how often it had stopped, and what its observer was told of errors.
    fn mirror(&self, on_error: OnError) -> (Result<()>, usize, Vec<(Side, Action)>) {
        let options = JobOptions {
            on_source_error: on_error,
            on_target_error: on_error,
            ..JobOptions::default()
        };
        let troubles = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&troubles);
        let observer = move |event: JobEvent, _: &_| {
            if let JobEvent::Trouble { side, action, .. } = event {
                told.lock().unwrap().push((side, action));
            }
        };
        let control = JobControl::new("job", options, Arc::default(), Box::new(observer));
        let [source, target] = &self.images;
        let (over, stops, result) = (Cell::new(false), Cell::new(0), Cell::new(None));
        let mut executor = Executor::new(&[&self.disks[0], &self.disks[1]], 3);
        executor.spawn("job", async {
            let target = Operand::Image(target);
            let ended = mirror(source, target, &OPTIONS, &control, async || Ok(())).await;
            control.conclude(&ended);
            result.set(Some(ended));
            over.set(true);
        });
        executor.spawn("clock", clock(&control, &over));
        executor.spawn("operator", async {
            while !over.get() {
                let info = control.info();
                if info.status == Status::Paused {
                    assert_ne!(info.io_status, IoStatus::Ok);
                    stops.set(stops.get() + 1);
                    control.resume().unwrap();
                    assert_eq!(control.info().io_status, IoStatus::Ok);
                }
                if info.status == Status::Ready {
                    control.complete().unwrap();
                }
                turn().await;
            }
        });
        executor.finish();
        drop(executor);
        let troubles = troubles.lock().unwrap().clone();
        (result.take().unwrap(), stops.get(), troubles)
    }

    fn assert_same(&self) {
        let [source, target] = &self.images;
        let source = run(&self.disks[0], 4, granules(source));
        assert_eq!(source, run(&self.disks[1], 4, granules(target)));
    }
}

const OPTIONS: MirrorOptions = MirrorOptions {
    sync: MirrorSync::Full,
    granularity: Granularity::MIN,
    copy_mode: CopyMode::Background,
};

fn fails(kind: Kind, count: u64, error: ErrorKind) -> Fault {
    Fault { kind: Some(kind), after: 0, count, error }
}

#[test]
fn an_error_that_is_reported_ends_the_job_and_the_source_goes_on() {
    for (place, kind, side) in [(0, Kind::Read, Side::Source), (1, Kind::Write, Side::Target)] {
        let scene = Scene::new();
        scene.disks[place].inject(fails(kind, 1, ErrorKind::Other));
        let (ended, stops, troubles) = scene.mirror(OnError::Report);
        ended.unwrap_err();
        assert_eq!((stops, troubles), (0, vec![(side, Action::Report)]));
        let write = scene.images[0].write(0, bytes(9), Persist::Later);
        run(&scene.disks[0], 5, write).unwrap();
    }
}

#[test]
fn a_job_that_stops_at_an_error_tries_again_when_it_is_resumed() {
    for (place, kind, side) in [(0, Kind::Read, Side::Source), (1, Kind::Write, Side::Target)] {
        let scene = Scene::new();
        scene.disks[place].inject(fails(kind, 2, ErrorKind::Other));
        let (ended, stops, troubles) = scene.mirror(OnError::Stop);
        ended.unwrap();
        assert_eq!((stops, troubles), (2, vec![(side, Action::Stop); 2]));
        scene.assert_same();
    }
}

#[test]
fn one_that_ignores_errors_copies_later_what_it_left_out() {
    for (place, kind, side) in [(0, Kind::Read, Side::Source), (1, Kind::Write, Side::Target)] {
        let scene = Scene::new();
        scene.disks[place].inject(fails(kind, 3, ErrorKind::Other));
        let (ended, stops, troubles) = scene.mirror(OnError::Ignore);
        ended.unwrap();
        assert_eq!((stops, troubles), (0, vec![(side, Action::Ignore); 3]));
        scene.assert_same();
    }
}

#[test]
fn one_that_stops_where_there_is_no_space_left_fails_at_any_other_error() {
    let scene = Scene::new();
    scene.disks[1].inject(fails(Kind::Write, 1, ErrorKind::StorageFull));
    let (ended, stops, _) = scene.mirror(OnError::Enospc);
    ended.unwrap();
    assert_eq!(stops, 1);
    scene.assert_same();
    let scene = Scene::new();
    scene.disks[1].inject(fails(Kind::Write, 1, ErrorKind::Other));
    let (ended, stops, _) = scene.mirror(OnError::Enospc);
    ended.unwrap_err();
    assert_eq!(stops, 0);
}

/// The guest is not to notice, whatever the job waits for.
#[test]
fn a_write_that_may_not_get_ahead_goes_on_when_its_job_stops_or_fails() {
    for on_error in [OnError::Stop, OnError::Report] {
        let scene = Scene::new();
        let options = JobOptions { on_target_error: on_error, ..JobOptions::default() };
        let control = JobControl::alone("job", options);
        let [source, target] = &scene.images;
        let over = Cell::new(false);
        let mut executor = Executor::new(&[&scene.disks[0], &scene.disks[1]], 6);
        executor.spawn("job", async {
            let options = MirrorOptions { copy_mode: CopyMode::WriteBlocking, ..OPTIONS };
            let target = Operand::Image(target);
            let ended = mirror(source, target, &options, &control, async || Ok(())).await;
            control.conclude(&ended);
        });
        executor.spawn("clock", clock(&control, &over));
        executor.spawn("guest", async {
            while control.info().status != Status::Ready {
                turn().await;
            }
            scene.disks[1].inject(fails(Kind::Write, u64::MAX, ErrorKind::Other));
            source.write(0, bytes(9), Persist::Later).await.unwrap();
            if control.info().status == Status::Standby {
                control.cancel().unwrap();
            }
            over.set(true);
        });
        executor.finish();
        assert_eq!(control.info().status, Status::Null);
    }
}

#[test]
fn disks_of_different_sizes_are_refused() {
    let scene = Scene::new();
    let [source, target] = &scene.images;
    run(&scene.disks[1], 7, target.resize(scene::SIZE + 512)).unwrap();
    let (ended, ..) = scene.mirror(OnError::Report);
    let text = "source.qbm: it has 6144 bytes, and the target 6656";
    assert_eq!(ended.unwrap_err().to_string(), text);
    run(&scene.disks[0], 8, source.resize(scene::SIZE + 512)).unwrap();
    scene.mirror(OnError::Report).0.unwrap();
    scene.assert_same();
}

#[test]
fn a_disk_keeps_its_size_while_a_job_follows_it() {
    let scene = Scene::new();
    let control = JobControl::alone("job", JobOptions::default());
    let [source, target] = &scene.images;
    let over = Cell::new(false);
    let mut executor = Executor::new(&[&scene.disks[0], &scene.disks[1]], 9);
    executor.spawn("job", async {
        let target = Operand::Image(target);
        let ended = mirror(source, target, &OPTIONS, &control, async || Ok(())).await;
        control.conclude(&ended);
        over.set(true);
    });
    executor.spawn("clock", clock(&control, &over));
    executor.spawn("operator", async {
        while control.info().status != Status::Ready {
            turn().await;
        }
        let error = source.resize(512).await.unwrap_err();
        assert_eq!(error.to_string(), "source.qbm: a job follows what is written to it");
        control.cancel().unwrap();
        while !over.get() {
            turn().await;
        }
        source.resize(512).await.unwrap();
    });
    executor.finish();
}

/// Two mirrors of two disks, one of which fails: neither moves.
#[test]
fn of_jobs_that_succeed_together_none_counts_if_one_fails() {
    for fails_one in [false, true] {
        let scenes = [Scene::new(), Scene::new()];
        let group = Arc::new(Group::default());
        let control = |id| {
            let group = Arc::clone(&group);
            JobControl::new(id, JobOptions::default(), group, Box::new(|_, _| ()))
        };
        let controls = [control("a"), control("b")];
        let (over, moved) = (Cell::new(false), Cell::new(0));
        let disks: Vec<&Disk> = scenes.iter().flat_map(|scene| &scene.disks).collect();
        let mut executor = Executor::new(&disks, 10);
        for (scene, control) in scenes.iter().zip(&controls) {
            executor.spawn("job", async {
                let [source, target] = &scene.images;
                let pivot = async || {
                    moved.set(moved.get() + 1);
                    Ok(())
                };
                let ended = mirror(source, Operand::Image(target), &OPTIONS, control, pivot).await;
                control.conclude(&ended);
                over.set(true);
            });
            executor.spawn("clock", clock(control, &over));
        }
        executor.spawn("operator", async {
            let ready = || controls.iter().all(|control| control.info().status == Status::Ready);
            while !ready() {
                turn().await;
            }
            controls[0].complete().unwrap();
            while controls[0].info().status != Status::Waiting {
                turn().await;
            }
            assert_eq!(moved.get(), 0, "the other is not done");
            if fails_one { controls[1].cancel().unwrap() } else { controls[1].complete().unwrap() }
        });
        executor.finish();
        assert_eq!(moved.get(), if fails_one { 0 } else { 2 });
        let cancelled = controls.each_ref().map(|control| control.info().cancelled);
        assert_eq!(cancelled, [fails_one; 2]);
    }
}

#[test]
fn a_mirror_onto_a_plain_file_is_the_disk() {
    let disk = Disk::immediate(scene::scene(true, false), 1);
    let source = run(&disk, 1, open(&disk, SOURCE, Access::Write, 10)).unwrap();
    let file = run(&disk, 1, SimDirectory::new(&disk).create("copy.raw")).unwrap();
    run(&disk, 1, file.set_len(scene::SIZE)).unwrap();
    let control = JobControl::alone("job", JobOptions::default());
    let mut executor = Executor::new(&[&disk], 2);
    executor.spawn("job", async {
        let target: Operand<'_, SimDirectory> =
            Operand::File { name: "copy.raw", file: &file, size: scene::SIZE };
        mirror(&source, target, &OPTIONS, &control, async || Ok(())).await.unwrap();
    });
    executor.spawn("operator", async {
        while control.info().status != Status::Ready {
            turn().await;
        }
        control.cancel_gently().unwrap();
    });
    executor.finish();
    drop(executor);
    let expected = run(&disk, 3, scene::contents(&source));
    assert_eq!(disk.snapshot().read("copy.raw").unwrap(), expected);
}
