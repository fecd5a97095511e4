//! What QEMU's own numbered tests are about, in our own words: each says its number. Those of jobs on
//! a running server are in `tests/serve`.

mod chains;
mod format;
mod reads;

use crate::scene::{Folder, KIB, MIB};

const GIB: u64 = 1 << 30;
const CLUSTER: u64 = 64 * KIB;

/// Where things are tried: at the start of a disk, and where an offset has more than 32 bits.
const PLACES: [u64; 2] = [0, 4 * GIB];

/// Runs commands of `qbm io` on `image`, each of which is a format of a place.
fn io_at_places(folder: &Folder, image: &str, commands: &dyn Fn(u64) -> Vec<String>) {
    let commands: Vec<String> = PLACES.into_iter().flat_map(commands).collect();
    folder.io(image, &commands.iter().map(String::as_str).collect::<Vec<_>>());
}
