//! A real process, really killed, and a real file system, really cut off: a few times of each.
//! `cargo xtask kill` and `cargo xtask power-cut` go on.

use iotests::{campaign, rounds};

/// P1, P3, P4: after `kill -9` at any moment nothing is lost, and the next backup is right.
#[test]
fn no_kill_loses_a_mark() {
    rounds(1, |seed| {
        let tally = campaign::kill(8, seed);
        assert!(tally.changed > 0 && tally.flushed > 0, "nothing was written: {tally:?}");
    });
}

/// P1, P3, P4: after a power cut under ext4 nothing is lost, and the next backup is right.
#[test]
fn no_power_cut_loses_a_mark() {
    rounds(1, |seed| {
        let tally = campaign::power_cut(8, seed);
        assert!(tally.changed > 0 && tally.flushed > 0, "nothing was written: {tally:?}");
    });
}
