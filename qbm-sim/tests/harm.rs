//! Each kind of harm that the simulator does to media and processes: it ruins a careless program, and
//! was done to the engine, which survived it. docs/faults.md has the list.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::OnceLock;

use qbm_core::{Access, Buffer, Directory, Persist, Storage};
use qbm_sim::rig::{Count, Family, run_case};
use qbm_sim::{Disk, Grain, Harm, Harms, Loss, Medium, SimDirectory, run};

/// How often `harm` was done in a few cases of the crash rig, which found nothing.
fn survived(harm: Harm) -> u64 {
    static TOTAL: OnceLock<Count> = OnceLock::new();
    let total = TOTAL.get_or_init(|| {
        let mut total = Count::default();
        for seed in 1000..1060 {
            println!("replay: QBM_SEED={seed} cargo run -p qbm-sim -- --cases 1");
            total.add(run_case(Family::Plain, seed));
        }
        total
    });
    total.harms.of(harm)
}

/// Files `a` and `b`, durably full of zeroes.
fn begin() -> (Disk, SimDirectory) {
    let disk = Disk::new(Medium::new(), 1);
    let directory = SimDirectory::new(&disk);
    run(&disk, 1, async {
        for name in ["a", "b"] {
            let file = directory.create(name).await.unwrap();
            file.write_at(0, Buffer::zeroed(16384), Persist::Now).await.unwrap();
            file.sync().await.unwrap();
        }
        directory.sync().await.unwrap();
    });
    assert_eq!(disk.snapshot().pending(), 0);
    (disk, directory)
}

/// What a power loss leaves of unsynced writes, each to a file, at an offset, of a byte so many times.
fn writes(writes: &[(&str, u64, u8, usize)]) -> Medium {
    let (disk, directory) = begin();
    run(&disk, 2, async {
        for (name, offset, byte, length) in writes {
            let file = directory.open(name, Access::Write).await.unwrap();
            let buffer = Buffer::from_slice(&vec![*byte; *length]);
            file.write_at(*offset, buffer, Persist::Later).await.unwrap();
        }
    });
    disk.snapshot()
}

/// What `harm` alone does to who relies on the opposite: some power loss leaves the medium `broken`, and
/// each that does is counted as `harm`. The engine has survived it.
fn ruins(harm: Harm, medium: &Medium, broken: impl Fn(&Medium) -> bool) {
    let torn = [Grain::Byte, Grain::Sector, Grain::Page].map(Loss::Torn);
    let whole = (0..8).map(Loss::Only).chain([Loss::Everything, Loss::Nothing]);
    let mut count = 0;
    for loss in whole.chain(torn) {
        for seed in 0..20 {
            let mut harms = Harms::default();
            let after = medium.power_loss(loss, &mut fastrand::Rng::with_seed(seed), &mut harms);
            if broken(&after) {
                assert!(harms.of(harm) > 0, "{loss:?}, seed {seed}: {harms:?}");
                count += 1;
            }
        }
    }
    assert!(count > 0, "nobody is ruined");
    assert!(survived(harm) >= 5, "{harm:?} was done {} times", survived(harm));
}

fn byte(medium: &Medium, name: &str, offset: usize) -> u8 {
    medium.read(name).unwrap()[offset]
}

#[test]
fn a_prefix_of_the_changes_survives() {
    let medium = writes(&[("a", 0, 1, 1), ("a", 4096, 1, 1)]);
    ruins(Harm::Prefix, &medium, |left| byte(left, "a", 0) == 1 && byte(left, "a", 4096) == 0);
}

#[test]
fn a_subset_of_the_changes_survives() {
    let medium = writes(&[("a", 0, 1, 1), ("b", 0, 1, 1), ("a", 4096, 1, 1)]);
    ruins(Harm::Subset, &medium, |left| byte(left, "b", 0) == 0 && byte(left, "a", 4096) == 1);
}

#[test]
fn a_write_is_torn_within_a_sector() {
    let medium = writes(&[("a", 0, 1, 8)]);
    ruins(Harm::TornAtBytes, &medium, |left| {
        let bytes = &left.read("a").unwrap()[..8];
        bytes.contains(&0) && bytes.contains(&1)
    });
}

#[test]
fn a_write_is_torn_between_sectors() {
    let medium = writes(&[("a", 0, 1, 1024)]);
    ruins(Harm::TornAtSectors, &medium, |left| {
        left.read("a").unwrap()[..1024] == [[1; 512], [0; 512]].concat()
    });
}

#[test]
fn a_write_is_torn_between_pages() {
    let medium = writes(&[("a", 0, 1, 8192)]);
    ruins(Harm::TornAtPages, &medium, |left| {
        left.read("a").unwrap()[..8192] == [[1; 4096], [0; 4096]].concat()
    });
}

#[test]
fn changes_of_two_files_survive_in_another_order() {
    let medium = writes(&[("a", 0, 1, 1), ("b", 0, 1, 1)]);
    ruins(Harm::ReorderedAcrossFiles, &medium, |left| {
        byte(left, "a", 0) == 0 && byte(left, "b", 0) == 1
    });
}

#[test]
fn writes_of_a_file_survive_in_another_order() {
    let medium = writes(&[("a", 0, 1, 1), ("a", 4096, 1, 1)]);
    ruins(Harm::ReorderedWithinFile, &medium, |left| {
        byte(left, "a", 0) == 0 && byte(left, "a", 4096) == 1
    });
}

#[test]
fn a_write_under_another_one_never_reaches_the_medium() {
    // Two bytes, of which the first is written again: no tear leaves the second one and both old.
    let medium = writes(&[("a", 0, 1, 1024), ("a", 0, 2, 512)]);
    ruins(Harm::MergedWrites, &medium, |left| {
        left.read("a").unwrap()[..1024] == [[2; 512], [0; 512]].concat()
    });
}

#[test]
fn a_rename_is_lost() {
    let (disk, directory) = begin();
    run(&disk, 2, async {
        let file = directory.create("new").await.unwrap();
        file.write_at(0, Buffer::from_slice(&[1]), Persist::Now).await.unwrap();
        file.sync().await.unwrap();
        directory.sync().await.unwrap();
        directory.rename("new", "a").await.unwrap();
    });
    ruins(Harm::LostRename, &disk.snapshot(), |left| byte(left, "a", 0) == 0);
}

#[test]
fn a_new_file_is_lost() {
    let (disk, directory) = begin();
    run(&disk, 2, async {
        let file = directory.create("new").await.unwrap();
        file.write_at(0, Buffer::from_slice(&[1]), Persist::Now).await.unwrap();
        file.sync().await.unwrap();
    });
    ruins(Harm::LostCreate, &disk.snapshot(), |left| left.read("new").is_none());
}

#[test]
fn a_new_length_is_lost() {
    let (disk, directory) = begin();
    run(&disk, 2, async {
        directory.open("a", Access::Write).await.unwrap().set_len(20_000).await.unwrap();
    });
    ruins(Harm::LostSize, &disk.snapshot(), |left| left.read("a").unwrap().len() != 20_000);
}

#[test]
fn a_removed_file_is_there_again() {
    let (disk, directory) = begin();
    run(&disk, 2, async { directory.remove("b").await.unwrap() });
    ruins(Harm::LostUnlink, &disk.snapshot(), |left| left.read("b").is_some());
}

/// Who reads in the page cache what a killed process has written may not rely on it.
#[test]
fn a_process_is_killed() {
    let medium = writes(&[("a", 0, 1, 1)]);
    let killed = Disk::new(medium, 1).kill(&mut fastrand::Rng::with_seed(1));
    assert_eq!(byte(&killed, "a", 0), 1);
    let mut rng = fastrand::Rng::with_seed(1);
    let after = killed.power_loss(Loss::Everything, &mut rng, &mut Harms::default());
    assert_eq!(byte(&after, "a", 0), 0);
    assert!(survived(Harm::Kill) > 50, "{}", survived(Harm::Kill));
}

#[test]
fn a_process_crashes_while_it_recovers() {
    let count = survived(Harm::CrashInRecovery);
    assert!(count > 10, "{count}");
}

#[test]
fn a_second_crash_comes_before_the_image_was_closed() {
    let count = survived(Harm::DoubleCrash);
    assert!(count > 50, "{count}");
}

#[test]
fn a_write_fails() {
    assert!(survived(Harm::WriteError) > 0);
}

#[test]
fn a_write_fails_for_lack_of_space() {
    assert!(survived(Harm::FullWrite) > 0);
}

#[test]
fn a_sync_fails_for_lack_of_space() {
    assert!(survived(Harm::FullSync) > 0);
}

/// A later sync says nothing of what a failed one covered: `fsync` on Linux.
#[test]
fn a_sync_fails_and_the_pages_are_lost() {
    assert!(survived(Harm::SyncErrorLost) > 0);
}

#[test]
fn a_sync_fails_and_the_pages_are_kept() {
    assert!(survived(Harm::SyncErrorKept) > 0);
}
