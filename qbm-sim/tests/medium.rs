//! What the simulated medium does to those who do not sync.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::ErrorKind;

use qbm_core::{Access, Buffer, Directory, Persist, Storage};
use qbm_sim::{Disk, Executor, Fault, Grain, Harms, Kind, Loss, Medium, SimDirectory, Step, run};

/// A disk with the file `name`, durable and full of `byte`.
fn disk_with(name: &str, byte: u8, length: usize) -> Disk {
    let disk = Disk::new(Medium::new(), 1);
    let directory = SimDirectory::new(&disk);
    run(&disk, 1, async {
        let file = directory.create(name).await.unwrap();
        file.write_at(0, Buffer::from_slice(&vec![byte; length]), Persist::Later).await.unwrap();
        file.sync().await.unwrap();
        directory.sync().await.unwrap();
    });
    assert_eq!(disk.snapshot().pending(), 0);
    disk
}

fn write(disk: &Disk, name: &str, byte: u8, length: usize, persist: Persist) {
    let directory = SimDirectory::new(disk);
    run(disk, 2, async {
        let file = directory.open(name, Access::Write).await.unwrap();
        let buffer = Buffer::from_slice(&vec![byte; length]);
        file.write_at(0, buffer, persist).await.unwrap();
    });
}

fn sync(disk: &Disk, name: &str) -> std::io::Result<()> {
    let directory = SimDirectory::new(disk);
    run(disk, 3, async { directory.open(name, Access::Write).await?.sync().await })
}

fn after(disk: &Disk, loss: Loss, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let medium = disk.snapshot().power_loss(loss, &mut rng, &mut Harms::default());
    medium.read("f").expect("the file is there").to_vec()
}

#[test]
fn what_was_not_synced_can_be_lost_and_can_be_kept() {
    let disk = disk_with("f", 1, 100);
    write(&disk, "f", 2, 100, Persist::Later);
    assert_eq!(after(&disk, Loss::Everything, 0), [1; 100]);
    assert_eq!(after(&disk, Loss::Nothing, 0), [2; 100]);
}

#[test]
fn what_was_synced_stays() {
    let disk = disk_with("f", 1, 100);
    write(&disk, "f", 2, 100, Persist::Later);
    sync(&disk, "f").unwrap();
    assert_eq!(after(&disk, Loss::Everything, 0), [2; 100]);
}

#[test]
fn a_durable_write_stays_without_a_sync() {
    let disk = disk_with("f", 1, 100);
    write(&disk, "f", 2, 100, Persist::Now);
    assert_eq!(after(&disk, Loss::Everything, 0), [2; 100]);
}

#[test]
fn a_write_tears_at_each_grain_and_nowhere_else() {
    for (grain, unit) in [(Grain::Byte, 1), (Grain::Sector, 512), (Grain::Page, 4096)] {
        let disk = disk_with("f", 1, 16384);
        write(&disk, "f", 2, 16384, Persist::Later);
        let mut torn = false;
        for seed in 0..20 {
            let bytes = after(&disk, Loss::Torn(grain), seed);
            assert!(bytes.chunks(unit).all(|part| part.iter().all(|byte| *byte == part[0])));
            torn |= bytes.contains(&1) && bytes.contains(&2);
        }
        assert!(torn, "{grain:?} never tore");
    }
}

#[test]
fn after_a_failed_sync_no_later_one_makes_the_pages_durable() {
    let disk = disk_with("f", 1, 100);
    write(&disk, "f", 2, 100, Persist::Later);
    let error = ErrorKind::Other;
    disk.inject(Fault { kind: Some(Kind::Sync), after: 0, count: 1, error });
    sync(&disk, "f").unwrap_err();
    sync(&disk, "f").unwrap();
    assert_eq!(disk.snapshot().read("f").unwrap(), [2; 100], "reads still see it");
    assert_eq!(after(&disk, Loss::Everything, 0), [1; 100]);
    // Written again, they are like any others.
    write(&disk, "f", 2, 100, Persist::Later);
    sync(&disk, "f").unwrap();
    assert_eq!(after(&disk, Loss::Everything, 0), [2; 100]);
}

#[test]
fn a_rename_is_undone_until_the_directory_is_synced() {
    let disk = disk_with("f", 1, 10);
    let directory = SimDirectory::new(&disk);
    run(&disk, 4, async {
        let file = directory.create("new").await.unwrap();
        file.write_at(0, Buffer::from_slice(&[9; 10]), Persist::Now).await.unwrap();
        directory.rename("new", "f").await.unwrap();
    });
    assert_eq!(after(&disk, Loss::Everything, 0), [1; 10]);
    assert_eq!(after(&disk, Loss::Nothing, 0), [9; 10]);
    run(&disk, 5, async { directory.sync().await.unwrap() });
    assert_eq!(after(&disk, Loss::Everything, 0), [9; 10]);
}

#[test]
fn kill_keeps_what_is_visible_and_makes_nothing_durable() {
    let disk = disk_with("f", 1, 100);
    write(&disk, "f", 2, 100, Persist::Later);
    let killed = disk.kill(&mut fastrand::Rng::with_seed(0));
    assert_eq!(killed.read("f").unwrap(), [2; 100]);
    assert_eq!(after(&Disk::new(killed, 0), Loss::Everything, 0), [1; 100]);
}

#[test]
fn exactly_the_chosen_changes_are_kept() {
    let disk = disk_with("f", 0, 4);
    let directory = SimDirectory::new(&disk);
    run(&disk, 6, async {
        let file = directory.open("f", Access::Write).await.unwrap();
        for (offset, byte) in [(0, 1), (1, 2), (2, 4), (3, 8)] {
            let buffer = Buffer::from_slice(&[byte]);
            file.write_at(offset, buffer, Persist::Later).await.unwrap();
        }
    });
    for chosen in 0..16_u8 {
        let bytes = after(&disk, Loss::Only(chosen.into()), 0);
        assert_eq!(bytes.iter().sum::<u8>(), chosen);
    }
}

#[test]
fn a_dropped_write_lands_later_and_settle_waits_for_it() {
    let mut landed_late = 0;
    for seed in 0..50 {
        let disk = disk_with("f", 1, 100);
        let directory = SimDirectory::new(&disk);
        let file = run(&disk, 7, async { directory.open("f", Access::Write).await.unwrap() });
        let mut executor = Executor::new(&[&disk], seed);
        executor.spawn("write", async {
            let buffer = Buffer::from_slice(&[2; 100]);
            let _written = file.write_at(0, buffer, Persist::Later).await;
        });
        assert_eq!(executor.step(), Step::Moved);
        executor.cancel_one();
        landed_late += u32::from(disk.snapshot().read("f").unwrap() == [1; 100]);
        drop(executor);
        run(&disk, seed, file.settle());
        assert_eq!(disk.snapshot().read("f").unwrap(), [2; 100], "seed {seed}");
    }
    assert!(landed_late > 0);
}

#[test]
#[should_panic(expected = "no progress")]
fn a_task_that_nobody_wakes_is_reported() {
    run(&Disk::new(Medium::new(), 0), 0, std::future::pending::<()>());
}

#[test]
fn a_sync_takes_nothing_away_from_a_write_that_came_after_it() {
    for seed in 0..50 {
        let disk = disk_with("f", 1, 10);
        let directory = SimDirectory::new(&disk);
        let file = run(&disk, 8, async { directory.open("f", Access::Write).await.unwrap() });
        let mut executor = Executor::new(&[&disk], seed);
        executor.spawn("old", async {
            file.write_at(0, Buffer::from_slice(&[2; 10]), Persist::Later).await.unwrap();
            file.sync().await.unwrap();
        });
        executor.spawn("new", async {
            file.write_at(5, Buffer::from_slice(&[3; 5]), Persist::Later).await.unwrap();
            file.sync().await.unwrap();
        });
        executor.finish();
        let seen = disk.snapshot().read("f").unwrap().to_vec();
        assert_eq!(after(&disk, Loss::Everything, 0), seen, "seed {seed}");
    }
}
