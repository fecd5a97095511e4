//! An error at every call to the medium, one after the other, in each of six scenarios.
//!
//! Method: the scenario runs once for each of its calls, which fails, until there is none left to fail.
//! What is lost is judged by the crash rig's model, with the power cut right after the error, after a
//! second attempt, and after an open and close.

use std::io::ErrorKind;

use qbm_core::Persist;
use qbm_sim::rig::{MAX_SIZE, Operation, Request, Step, run_script};
use qbm_sim::{Disk, Executor, Fault, Grain, Loss};

/// The errors that a call may meet. The engine tells none of them from another, so two are enough.
const ERRORS: [ErrorKind; 2] = [ErrorKind::Other, ErrorKind::StorageFull];

fn write(granule: usize) -> Step {
    let (range, what) = (granule * 512..granule * 512 + 700, Request::Write);
    Step::Do(Operation::Change { range, what, persist: Persist::Later })
}

fn cuts() -> [Step; 3] {
    [Loss::Everything, Loss::Nothing, Loss::Torn(Grain::Byte)].map(Step::PowerLoss)
}

/// Runs `scenario` with each of its calls failing, as `fail` has it; returns how many there were.
fn every_call(fail: fn(Fault) -> Step, scenario: &[Step]) -> u64 {
    let run = |calls: u64, error: ErrorKind| {
        println!("call {calls}: {error:?}");
        let fault = Fault { kind: None, after: calls, count: 1, error };
        let mut steps = vec![write(0), Step::Do(Operation::Flush), write(3), fail(fault)];
        steps.extend_from_slice(scenario);
        steps.push(Step::Calm);
        steps.extend(cuts());
        steps.push(write(5));
        steps.extend_from_slice(scenario);
        steps.extend(cuts());
        steps.extend([Step::Reopen, write(7), Step::Reopen]);
        run_script(steps, calls)
    };
    let mut calls = 0;
    while ERRORS.map(|error| run(calls, error).errors) == [1, 1] {
        calls += 1;
    }
    println!("{calls} calls");
    calls
}

fn operation(operation: Operation) -> [Step; 1] {
    [Step::Do(operation)]
}

#[test]
fn a_backup_loses_nothing_whatever_call_fails() {
    let scenario = operation(Operation::BackUp("point".to_owned()));
    let calls = every_call(Step::Fail, &scenario);
    assert!(calls >= 20, "{calls}");
    let calls = every_call(Step::FailTarget, &scenario);
    assert!(calls >= 15, "{calls}");
}

#[test]
fn adding_a_bitmap_loses_nothing_whatever_call_fails() {
    let calls = every_call(Step::Fail, &operation(Operation::Add));
    assert!(calls >= 10, "{calls}");
}

#[test]
fn clearing_a_bitmap_loses_nothing_whatever_call_fails() {
    let calls = every_call(Step::Fail, &operation(Operation::Clear));
    assert!(calls >= 10, "{calls}");
}

#[test]
fn a_resize_loses_nothing_whatever_call_fails() {
    for size in [MAX_SIZE, 8 * 512] {
        let calls = every_call(Step::Fail, &operation(Operation::Resize(size)));
        assert!(calls >= 10, "{calls}");
    }
}

#[test]
fn an_open_after_a_crash_loses_nothing_whatever_call_fails() {
    let calls = every_call(Step::KillAndFail, &[]);
    assert!(calls >= 20, "{calls}");
}

#[test]
fn a_close_loses_nothing_whatever_call_fails() {
    let calls = every_call(Step::Fail, &[Step::Reopen]);
    assert!(calls >= 20, "{calls}");
}

/// What an error says, and what a second attempt comes to.
mod told {
    use std::sync::Arc;

    use qbm_core::backup::{self, BackupOptions};
    use qbm_core::descriptor::Durability;
    use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
    use qbm_core::{Access, Buffer, Error, Granularity, Host, Image, Persist, Result};
    use qbm_sim::{Disk, Fault, Medium, SimDirectory, SimHost, run};

    use super::ERRORS;

    const SIZE: u64 = 8 * 512;

    /// An image with the bitmap `b`, which marks a granule; with `crashed` it was never closed.
    fn medium(crashed: bool) -> Medium {
        let disk = Disk::new(Medium::new(), 1);
        run(&disk, 1, async {
            let options = CreateOptions {
                file: "d.raw".to_owned(),
                data: None,
                size: SIZE,
                durability: Durability::Exact,
            };
            let directory = SimDirectory::new(&disk);
            image::create(&directory, "i.qbm", options, &SimHost::new(1)).await.unwrap();
            let image = open(&disk, 2).await.unwrap();
            image.transaction(&[add("b")]).await.unwrap();
            image.write(0, Buffer::from_slice(&[1; 512]), Persist::Now).await.unwrap();
            if !crashed {
                image.close().await.unwrap();
            }
        });
        disk.kill(&mut fastrand::Rng::with_seed(1))
    }

    fn host(seed: u64) -> Arc<dyn Host> {
        Arc::new(SimHost::new(seed))
    }

    async fn open(disk: &Disk, seed: u64) -> Result<Image<SimDirectory>> {
        let options = OpenOptions::new(Access::Write);
        Image::open(SimDirectory::new(disk), "i.qbm", options, host(seed)).await
    }

    fn add(name: &str) -> BitmapAction {
        BitmapAction::Add { name: name.to_owned(), granularity: Granularity::MIN, disabled: false }
    }

    /// What is done to an open image.
    async fn attempt(scenario: &str, image: &Image<SimDirectory>, target: &Disk) -> Result<()> {
        match scenario {
            "backup" => {
                let options = BackupOptions {
                    bitmap: "b".to_owned(),
                    granularity: Granularity::MIN,
                    name: "point".to_owned(),
                    full: false,
                    require_incremental: false,
                };
                let target = SimDirectory::new(target);
                backup::run(image, &target, &options, &host(9), &mut |_| {}).await.map(drop)
            }
            "add" => image.transaction(&[add("c")]).await,
            "clear" => image.transaction(&[BitmapAction::Clear("b".to_owned())]).await,
            "resize" => image.resize(SIZE + 1024).await,
            _ => unreachable!("there is no other scenario"),
        }
    }

    /// An error names a file, and is one line.
    fn names_a_file(error: &Error) {
        let text = error.to_string();
        let names = ["i.qbm", "d.raw", "point", "target", "reopen the image", "bitmap '"];
        assert!(names.iter().any(|name| text.contains(name)), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    /// Whether `result` tells of the error; if not, it has to have been done nevertheless.
    fn tells(result: &Result<()>) -> bool {
        result.as_ref().inspect_err(|error| names_a_file(error)).is_err()
    }

    #[test]
    fn an_operation_tells_which_file_failed_and_can_be_tried_again() {
        for scenario in ["backup", "add", "clear", "resize"] {
            let (mut told, mut failed) = (0, 0);
            for (call, error) in (0..).flat_map(|call| ERRORS.map(|error| (call, error))) {
                let (disk, target) = (Disk::new(medium(false), 3), Disk::new(Medium::new(), 4));
                let fault = Fault { kind: None, after: call, count: 1, error };
                let both = async {
                    let image = open(&disk, 5).await.unwrap();
                    disk.inject(fault);
                    let first = attempt(scenario, &image, &target).await;
                    disk.calm();
                    told += u32::from(tells(&first));
                    let second = attempt(scenario, &image, &target).await;
                    // It works, or it has been done the first time, or it says what to do.
                    if let Err(error) = second {
                        let done = first.is_ok() || error.to_string().contains("exists");
                        assert!(done || error.to_string().contains("reopen"), "{call}: {error}");
                        names_or_exists(&error);
                    }
                    let _closed = image.close().await.inspect_err(names_a_file);
                };
                super::on_both(&disk, &target, both);
                if disk.injected().errors == 0 {
                    break;
                }
                failed += 1;
                run(&disk, 6, async {
                    let image = open(&disk, 7).await.expect("nothing fails any more");
                    image.close().await.expect("nothing fails any more");
                });
            }
            println!("{scenario}: {told} of {failed} errors told");
            assert!(told >= 10 && told * 2 > failed, "{scenario}: {told} of {failed}");
        }
    }

    fn names_or_exists(error: &Error) {
        if !error.to_string().contains("exists") {
            names_a_file(error);
        }
    }

    #[test]
    fn an_open_after_a_crash_tells_which_file_failed_and_can_be_tried_again() {
        let (mut told, mut failed) = (0, 0);
        for (call, error) in (0..).flat_map(|call| ERRORS.map(|error| (call, error))) {
            let disk = Disk::new(medium(true), 3);
            disk.inject(Fault { kind: None, after: call, count: 1, error });
            run(&disk, 5, async {
                told += u32::from(tells(&open(&disk, 5).await.map(drop)));
                disk.calm();
                let image = open(&disk, 6).await.expect("nothing fails any more");
                assert!(image.bitmap_bits("b").await.unwrap().get(0), "call {call}");
                image.close().await.expect("nothing fails any more");
            });
            if disk.injected().errors == 0 {
                break;
            }
            failed += 1;
        }
        assert!(told >= 10 && told * 2 > failed, "{told} of {failed}");
    }

    #[test]
    fn a_close_tells_which_file_failed_and_leaves_what_opens_with_all_marks() {
        let (mut told, mut failed) = (0, 0);
        for (call, error) in (0..).flat_map(|call| ERRORS.map(|error| (call, error))) {
            let disk = Disk::new(medium(false), 3);
            run(&disk, 5, async {
                let image = open(&disk, 5).await.unwrap();
                image.write(1024, Buffer::from_slice(&[2; 512]), Persist::Later).await.unwrap();
                disk.inject(Fault { kind: None, after: call, count: 1, error });
                told += u32::from(tells(&image.close().await));
                disk.calm();
                let image = open(&disk, 6).await.expect("nothing fails any more");
                let bits = image.bitmap_bits("b").await.unwrap();
                assert!(bits.get(0) && bits.get(2), "call {call}");
                image.close().await.expect("nothing fails any more");
            });
            if disk.injected().errors == 0 {
                break;
            }
            failed += 1;
        }
        // A seal that cannot be written is left out, and nothing is told of it.
        assert!(told >= 10 && told * 2 >= failed, "{told} of {failed}");
    }
}

/// Runs `work`, which uses two disks.
fn on_both(one: &Disk, other: &Disk, work: impl Future<Output = ()>) {
    let mut executor = Executor::new(&[one, other], 1);
    executor.spawn("work", work);
    executor.finish();
}
