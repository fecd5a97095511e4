//! The power cut rig itself: it loses what was not synced, keeps what was, and leaves nothing.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use iotests::{LoopExt4, Moment, Victim, rounds, run, tool};

const SIZE: u64 = 32 << 20;
const PAGE: usize = 4096;

/// A new file of zeroes, durable with its name.
fn create_zeroed(path: &Path, length: usize) {
    fs::write(path, vec![0; length]).unwrap();
    File::open(path).unwrap().sync_all().unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

/// Whether anything is mounted on `folder`.
fn is_mounted(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == folder.to_str())
}

/// One cut with an acknowledged page, `value`, and a page that was only written.
fn cut_between_two_pages(disk: &mut LoopExt4, path: &Path, value: u8) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[value; PAGE], 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(&[value; PAGE], PAGE as u64).unwrap();
    disk.cut_power();
    assert!(file.write_all_at(&[value; PAGE], 0).is_err(), "the power is off");
    drop(file);
    disk.restart();
    assert_eq!(fs::read(path).unwrap(), [[value; PAGE], [0; PAGE]].concat(), "cut {value}");
}

#[test]
fn a_synced_page_is_kept_and_an_unsynced_one_is_lost() {
    let mut disk = LoopExt4::create(SIZE);
    let path = disk.path().join("data");
    create_zeroed(&path, 2 * PAGE);
    for value in 1..=50 {
        cut_between_two_pages(&mut disk, &path, value);
    }
}

#[test]
fn a_rename_is_lost_until_its_folder_is_synced() {
    let mut disk = LoopExt4::create(SIZE);
    let [old, new] = ["old", "new"].map(|name| disk.path().join(name));
    create_zeroed(&old, PAGE);
    fs::rename(&old, &new).unwrap();
    disk.cut_power();
    disk.restart();
    assert!(old.exists() && !new.exists());
    fs::rename(&old, &new).unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    disk.cut_power();
    disk.restart();
    assert!(!old.exists() && new.exists());
}

/// `qemu-io` writes page after page, and reports each once it is durable. (`stdbuf` lets it report
/// at once.)
fn writer(path: &Path, pages: usize) -> Victim {
    let mut command = tool("stdbuf");
    command.args(["-oL", "qemu-io", "-f", "raw", "-t", "writethrough"]);
    for page in 0..pages {
        command.args(["-c", &format!("write -P {} {} {PAGE}", page % 255 + 1, page * PAGE)]);
    }
    Victim::spawn(command.arg(path).stdin(Stdio::null()).stderr(Stdio::null()))
}

#[test]
fn what_a_program_reported_as_durable_survives_a_cut_under_load() {
    const PAGES: usize = 1000;
    let mut disk = LoopExt4::create(SIZE);
    let mut killed = 0;
    rounds(20, |seed| {
        let path = disk.path().join(seed.to_string());
        create_zeroed(&path, PAGES * PAGE);
        let latest = Moment { lines: PAGES, pause: Duration::from_millis(2) };
        let moment = Moment::draw(&mut seed.random(), latest);
        let mut victim = writer(&path, PAGES);
        victim.wait_for(moment);
        disk.cut_power();
        let remains = victim.kill();
        disk.restart();
        killed += usize::from(remains.was_killed());
        let reported = remains.lines.iter().filter(|line| line.starts_with("wrote ")).count();
        assert!(reported >= moment.lines / 2, "{moment:?}: {reported} pages reported");
        let contents = fs::read(&path).unwrap();
        for (page, bytes) in contents.chunks(PAGE).take(reported).enumerate() {
            let value = u8::try_from(page % 255 + 1).unwrap();
            assert!(bytes.iter().all(|byte| *byte == value), "page {page} of {reported} is lost");
        }
        fs::remove_file(&path).unwrap();
    });
    assert!(killed > 0, "no cut hit a running program");
}

#[test]
fn disks_work_side_by_side() {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut disk = LoopExt4::create(SIZE);
                let path = disk.path().join("data");
                create_zeroed(&path, 2 * PAGE);
                (1..=5).for_each(|value| cut_between_two_pages(&mut disk, &path, value));
            });
        }
    });
}

#[test]
fn a_panic_leaves_nothing_mounted() {
    let mut folder = PathBuf::new();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        let disk = LoopExt4::create(SIZE);
        folder = disk.path().to_owned();
        let _open = File::create(folder.join("open")).unwrap();
        assert!(is_mounted(&folder));
        disk.cut_power();
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
    assert!(!is_mounted(&folder) && !folder.exists());
}

#[test]
fn what_a_killed_test_left_mounted_is_removed_by_the_next() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let folder = std::env::temp_dir().join(format!("qbm-power-cut-{}-left", gone.id()));
    fs::create_dir(&folder).unwrap();
    run(tool("mount").args(["-t", "tmpfs", "left"]).arg(&folder)).success();
    assert!(is_mounted(&folder));
    drop(LoopExt4::create(SIZE));
    assert!(!is_mounted(&folder) && !folder.exists());
}

#[test]
fn a_dropped_disk_frees_its_loop_device() {
    let disk = LoopExt4::create(SIZE);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounted = |line: &&str| line.split(' ').nth(1) == disk.path().to_str();
    let device = mounts.lines().find(mounted).and_then(|line| line.split(' ').next()).unwrap();
    let backing = format!("/sys/block/{}/loop/backing_file", device.trim_start_matches("/dev/"));
    let file = fs::read_to_string(&backing).unwrap();
    drop(disk);
    // Another disk may take the device as soon as it is free, but never the same file. A program
    // that another test is just starting has the device open too, until it is loaded.
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::read_to_string(&backing).is_ok_and(|now| now == file) {
        assert!(Instant::now() < deadline, "{device} is still attached");
        thread::yield_now();
    }
}
