//! A real process, really killed, and a real file system, really cut off: a few times of each.
//! `cargo xtask kill` and `cargo xtask power-cut` go on.

use iotests::campaign::{self, Tallies};
use iotests::rounds;

/// P1, P3, P4: after `kill -9` at any moment nothing is lost, and the next backup is right.
#[test]
fn no_kill_loses_a_mark() {
    rounds(1, |seed| {
        check(campaign::kill(8, seed));
    });
}

/// P1, P3, P4: after a power cut under ext4 nothing is lost, and the next backup is right.
#[test]
fn no_power_cut_loses_a_mark() {
    rounds(1, |seed| {
        check(campaign::power_cut(8, seed));
    });
}

/// The rounds themselves have judged what was lost; but something must have been written.
fn check(Tallies { flat, overlay }: Tallies) {
    assert!(flat.judged > 0, "no image of its own: {flat:?}");
    assert!(overlay.changed > 0 && overlay.flushed > 0, "nothing was written: {overlay:?}");
}
