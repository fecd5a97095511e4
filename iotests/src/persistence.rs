//! Kills of a server around `block-dirty-bitmap-set-persistent`.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_executor::block_on;
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_nbd::{NbdStorage, NbdUri};
use qbm_qmp::Client;
use serde_json::{Value, json};

use crate::{Seed, Served, folder_with_image, qbm, run};

const DISK: u64 = 4 << 20;
const GRANULARITY: u64 = 64 << 10;
/// The bitmap that is made persistent, and in memory only again.
const NAME: &str = "b";
/// The longest that a server lives once the command is sent, in microseconds: longer than it mostly takes.
const LONGEST_LIFE: u64 = 6000;

/// What was seen over all kills.
#[derive(Clone, Debug, Default)]
pub struct Kills {
    /// Kills after a reply.
    pub acknowledged: u32,
    /// Kills before there was one.
    pub cut_off: u32,
    /// Times that the bitmap was there afterwards.
    pub there: u32,
    /// What it marked after the last one, if it was.
    marks: Option<BTreeSet<u64>>,
}

/// The granules that a guest has written to since the bitmap records.
#[derive(Debug, Default)]
struct Written {
    begun: BTreeSet<u64>,
    returned: BTreeSet<u64>,
}

/// Kills a server `count` times, half of them right after it has said that a bitmap is persistent, or is so
/// no more, the others at moments that `seed` draws, while a guest writes.
///
/// # Panics
///
/// If what was acknowledged does not hold, a mark is lost or made up, or something else goes wrong; the
/// message has what replays it.
pub fn kill(count: u32, seed: Seed) -> Kills {
    let folder = folder_with_image(DISK);
    let folder = folder.path();
    let uri = format!("nbd+unix:///?socket={}/qbm.sock", folder.display());
    let uri: NbdUri = uri.parse().expect("an address");
    let (mut random, mut kills, mut written) =
        (seed.random(), Kills::default(), Written::default());
    for round in 1..=count {
        let replay = format!("kill {round}, QBM_SEED={seed}");
        let served = Served::start(folder, &["vm.qbm"]);
        let mut monitor = Client::connect(&folder.join("vm.qbm.qmp"), &[]).expect("a monitor");
        let was_there = kills.marks.is_some();
        assert_eq!(is_there(&mut monitor), was_there, "{replay}: the server and `qbm map` differ");
        if !was_there {
            let add = json!({ "node": "vm.qbm", "name": NAME, "granularity": GRANULARITY });
            monitor.execute("block-dirty-bitmap-add", &add).expect("an answer");
            written = Written::default();
        }
        let life = random.bool().then(|| Duration::from_micros(random.u64(..LONGEST_LIFE)));
        let disk = NbdStorage::connect(&uri, Access::Write).expect("a client");
        let guest = Guest { disk, random: random.fork(), written: &mut written };
        let acknowledged = change_and_kill((served, monitor), !was_there, life, guest);
        kills.marks = marks(folder);
        let (there, counted) = (
            kills.marks.is_some(),
            if acknowledged { &mut kills.acknowledged } else { &mut kills.cut_off },
        );
        *counted += 1;
        assert!(
            !acknowledged || there != was_there,
            "{replay}: what was acknowledged does not hold"
        );
        if let Some(marks) = &kills.marks {
            assert!(written.returned.is_subset(marks), "{replay}: of {written:?} only {marks:?}");
            assert!(marks.is_subset(&written.begun), "{replay}: of {written:?} all of {marks:?}");
            kills.there += 1;
        }
    }
    // Files that nothing names may be left, and nothing else.
    run(qbm().current_dir(folder).args(["check", "-r", "all", "vm.qbm"])).success();
    kills
}

/// What writes meanwhile.
struct Guest<'a> {
    disk: NbdStorage,
    random: Rng,
    written: &'a mut Written,
}

impl Guest<'_> {
    /// Writes until the server is gone.
    fn live(mut self) {
        loop {
            let granule = self.random.u64(..DISK / GRANULARITY);
            self.written.begun.insert(granule);
            let (offset, buffer) = (granule * GRANULARITY, Buffer::from_slice(&[7; 512]));
            if block_on(self.disk.write_at(offset, buffer, Persist::Later)).is_err() {
                return;
            }
            self.written.returned.insert(granule);
        }
    }
}

/// Has the bitmap made `persistent`, or not, while `guest` writes, and kills the server: after its `life`, or
/// right after its reply. Returns whether it had said that it was done.
fn change_and_kill(
    (served, mut monitor): (Served, Client),
    persistent: bool,
    life: Option<Duration>,
    guest: Guest<'_>,
) -> bool {
    let arguments = json!({ "node": "vm.qbm", "name": NAME, "persistent": persistent });
    let mut change =
        move || monitor.execute("block-dirty-bitmap-set-persistent", &arguments).is_ok();
    thread::scope(|scope| {
        scope.spawn(move || guest.live());
        let Some(life) = life else {
            let done = change();
            served.kill();
            assert!(done, "nothing was in its way");
            return done;
        };
        let changing = scope.spawn(change);
        wait(life);
        served.kill();
        changing.join().expect("an answer, or none")
    })
}

fn wait(life: Duration) {
    let end = Instant::now() + life;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::sleep(left);
    }
}

fn is_there(monitor: &mut Client) -> bool {
    let nodes = monitor.execute("query-named-block-nodes", &json!({})).expect("an answer");
    let bitmaps = nodes[0]["dirty-bitmaps"].as_array().expect("it is an image");
    bitmaps.iter().any(|bitmap| bitmap["name"] == NAME)
}

/// The granules that the bitmap marks, if it is there.
fn marks(folder: &Path) -> Option<BTreeSet<u64>> {
    let arguments = ["map", "--bitmap", NAME, "--output", "json", "vm.qbm"];
    let map = run(qbm().current_dir(folder).args(arguments));
    if map.stderr.contains("not found") {
        return None;
    }
    let extents = map.success().json();
    let dirty = extents.as_array().expect("a list").iter().filter(|extent| extent["dirty"] == true);
    let number = |value: &Value| value.as_u64().expect("a number") / GRANULARITY;
    let granules = dirty.flat_map(|extent| {
        let (start, length) = (number(&extent["start"]), number(&extent["length"]));
        start..start + length
    });
    Some(granules.collect())
}
