//! The same random sequence of steps on overlays of ours and on qcow2 through QEMU's programs, with
//! what is to be seen compared after each.
//!
//! What must not be the same is how zeroes are kept: as a cluster, as a hole in one, or as nothing.
//! So the layer that has a sector is compared only where it is not zero. The bytes are read
//! from the files at the places that the maps tell, so that a wrong map is seen as well.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;
use qbm_cli::target::data_name;
use qbm_core::zeroes::is_zero;
use serde::Deserialize;

use crate::{Finished, Seed, qbm, run, tool};

/// Steps of a sequence.
const STEPS: usize = 8;
/// Bytes of a cluster, of either format.
const CLUSTER: u64 = CLUSTER_BYTES as u64;
const CLUSTER_BYTES: usize = 64 << 10;
/// The largest disk, in clusters.
const LARGEST: u64 = 12;
/// The number of the image that is behind all at first, which is raw.
const BASE: usize = 0;

/// What is done to the top of a chain.
#[derive(Clone, Debug)]
enum Step {
    /// A new top, perhaps of another size.
    Overlay(Option<u64>),
    /// Commands of qemu-io.
    Requests(Vec<String>),
    /// Into the layer at this place, or the next; and whether the top stays as it is.
    Commit(Option<usize>, bool),
    /// Onto the image at this place from the bottom, or onto nothing.
    Rebase(Option<usize>),
    /// To so many bytes.
    Resize(u64),
    /// Into a raw file.
    Convert,
}

/// Runs the sequence that `seed` draws; returns how many of its steps succeeded.
///
/// # Panics
///
/// If the two differ.
pub fn sequence(seed: Seed) -> usize {
    // In memory: it is not about crashes, and each step is made durable.
    let folder = tempfile::tempdir_in("/dev/shm").expect("a temporary folder");
    let mut random = seed.random();
    let sides = [Side::new(folder.path(), "qbm"), Side::new(folder.path(), "qcow2")];
    let mut chain = Chain { sizes: vec![size(&mut random)], images: vec![BASE], seams: Vec::new() };
    let fills: Vec<u8> = (0..LARGEST).map(|_| random.u8(..) * random.u8(..2)).collect();
    for side in &sides {
        write_base(&side.folder, chain.size(), &fills).expect("the base is written");
    }
    let mut succeeded = 0;
    let mut done = vec![Step::Overlay(None)];
    loop {
        let step = done.last().expect("there is one").clone();
        let results = sides.each_ref().map(|side| side.perform(&chain, &step));
        let codes = results.each_ref().map(|result| result.status.code());
        assert!(codes[0] == codes[1], "{}", Difference(&done, &format!("{results:#?}")));
        if codes[0] == Some(0) {
            chain.follow(&step);
            succeeded += 1;
        }
        let seen = sides.each_ref().map(|side| side.look(&chain));
        if let Some(what) = difference(&seen, &chain.seams) {
            panic!("{}", Difference(&done, &what));
        }
        if matches!(step, Step::Convert) {
            for (side, seen) in sides.iter().zip(&seen) {
                let raw = std::fs::read(side.folder.join("out")).expect("it was converted");
                assert!(raw == seen.bytes, "{}", Difference(&done, "the copy is another disk"));
            }
        }
        if done.len() > STEPS {
            return succeeded;
        }
        done.push(chain.draw(&mut random));
    }
}

/// What the steps led to, for messages.
struct Difference<'a>(&'a [Step], &'a str);

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the two differ after")?;
        for step in self.0 {
            writeln!(f, "    {step:?}")?;
        }
        write!(f, "{}", self.1)
    }
}

/// A size of a disk, in whole sectors.
fn size(random: &mut Rng) -> u64 {
    random.u64(1..=LARGEST * CLUSTER / 512) * 512
}

/// Writes the base of `size` bytes, with a cluster full of each of `fills`; zeroes are holes, as the
/// programs make them.
fn write_base(folder: &Path, size: u64, fills: &[u8]) -> io::Result<()> {
    let file = File::create(folder.join(name(BASE)))?;
    for (offset, fill) in (0..size).step_by(CLUSTER_BYTES).zip(fills).filter(|(_, fill)| **fill > 0)
    {
        file.write_all_at(&[*fill; CLUSTER_BYTES], offset)?;
    }
    // What is past it in the last cluster goes.
    file.set_len(size)
}

/// The images, by their numbers.
struct Chain {
    /// The sizes in bytes of all that there are, whether still in use or not.
    sizes: Vec<u64>,
    /// Those that the top is made of, from the lowest up.
    images: Vec<usize>,
    /// Clusters in which a disk ended when it was made longer: ours allocates them.
    seams: Vec<u64>,
}

impl Chain {
    fn draw(&self, random: &mut Rng) -> Step {
        let below = self.images.len() - 1;
        match random.u8(..20) {
            0..3 if self.images.len() < 6 => Step::Overlay(random.bool().then(|| size(random))),
            3..6 => Step::Commit(random.bool().then(|| random.usize(..=below)), random.bool()),
            6..9 => Step::Rebase((random.u8(..5) > 0).then(|| random.usize(..=below))),
            9..11 => self.new_size(random).map_or(Step::Convert, Step::Resize),
            11 => Step::Convert,
            _ => Step::Requests((0..random.usize(1..5)).map(|_| self.request(random)).collect()),
        }
    }

    /// Another size, if there is one that both take for the same. What qcow2 has of a cluster past the
    /// end of the disk shows once that is longer, where ours has zeroes: so a disk is not cut within a
    /// cluster, nor made longer from there if others are longer, of which a rebase pulls whole clusters.
    fn new_size(&self, random: &mut Rng) -> Option<u64> {
        let (old, new) = (self.size(), size(random));
        if new < old {
            return Some(new.next_multiple_of(CLUSTER).min(old));
        }
        let seen = !old.is_multiple_of(CLUSTER) && self.sizes.iter().any(|other| *other > old);
        (!seen).then_some(new)
    }

    fn request(&self, random: &mut Rng) -> String {
        let size = self.size();
        let sectors = size / 512;
        let offset = random.u64(..sectors);
        let length = random.u64(1..=(sectors - offset).min(300));
        let (offset, length) = (offset * 512, length * 512);
        // Of a part of a cluster, a discard may do nothing or all.
        let start = offset / CLUSTER * CLUSTER;
        let whole = (start + length.next_multiple_of(CLUSTER)).min(size) - start;
        match random.u8(..6) {
            0 => format!("discard -q {start} {whole}"),
            1 => format!("write -q -z {offset} {length}"),
            2 => format!("write -q -z -u {start} {whole}"),
            _ => format!("write -q -P {} {offset} {length}", random.u8(1..)),
        }
    }

    fn top(&self) -> usize {
        *self.images.last().expect("there is one")
    }

    /// The size of the disk in bytes.
    fn size(&self) -> u64 {
        self.sizes[self.top()]
    }

    /// The image at the place `index` from the bottom, if it is behind the top; else the base.
    fn behind(&self, index: usize) -> usize {
        *self.images[..self.images.len() - 1].get(index).unwrap_or(&BASE)
    }

    /// What has become of it by `step`.
    fn follow(&mut self, step: &Step) {
        match step {
            Step::Overlay(size) => {
                let size = size.unwrap_or(self.size());
                self.images.push(self.sizes.len());
                self.sizes.push(size);
            }
            Step::Resize(size) => self.resize(self.top(), *size),
            Step::Commit(base, _) => {
                let into = self.behind(base.unwrap_or(self.images.len().saturating_sub(2)));
                self.resize(into, self.size().max(self.sizes[into]));
            }
            Step::Rebase(onto) => {
                let behind = onto.map(|onto| self.behind(onto));
                let place = self.images.iter().position(|image| Some(*image) == behind);
                let top = self.top();
                self.images.truncate(place.map_or(0, |place| place + 1));
                if place.is_none() {
                    self.images.extend(behind);
                }
                self.images.push(top);
            }
            Step::Requests(_) | Step::Convert => {}
        }
    }

    fn resize(&mut self, image: usize, size: u64) {
        self.seams.push(self.sizes[image] / CLUSTER);
        self.sizes[image] = size;
    }
}

/// The name of an image.
fn name(image: usize) -> String {
    if image == BASE { "base.raw".to_owned() } else { format!("{image}.image") }
}

/// One of the two formats, and its folder.
struct Side {
    folder: std::path::PathBuf,
    format: &'static str,
}

/// What is to be seen of a disk.
struct Seen {
    bytes: Vec<u8>,
    extents: Vec<Extent>,
}

/// An entry of a map.
#[derive(Debug, Deserialize)]
struct Extent {
    start: u64,
    length: u64,
    depth: usize,
    present: bool,
    data: bool,
    /// Where it is in its file, if it is in one.
    #[serde(default)]
    offset: Option<u64>,
}

impl Side {
    fn new(folder: &Path, format: &'static str) -> Self {
        let folder = folder.join(format);
        std::fs::create_dir(&folder).expect("a folder");
        Self { folder, format }
    }

    fn image(&self) -> Command {
        if self.format == "qbm" { qbm() } else { tool("qemu-img") }
    }

    fn run(&self, mut command: Command, arguments: &[&str]) -> Finished {
        run(command.current_dir(&self.folder).args(arguments))
    }

    fn format_of(&self, image: usize) -> &'static str {
        if image == BASE { "raw" } else { self.format }
    }

    fn perform(&self, chain: &Chain, step: &Step) -> Finished {
        let (top, format) = (&name(chain.top()), self.format);
        match step {
            Step::Overlay(size) => {
                let (new, size) = (name(chain.sizes.len()), size.map(|it| it.to_string()));
                let behind = self.format_of(chain.top());
                let create = ["create", "-q", "-f", format, "-b", top, "-F", behind];
                let rest = [Some(new.as_str()), size.as_deref()];
                let arguments: Vec<_> =
                    create.into_iter().chain(rest.into_iter().flatten()).collect();
                self.run(self.image(), &arguments)
            }
            Step::Requests(requests) => {
                let mut io = if format == "qbm" { qbm() } else { tool("qemu-io") };
                if format == "qbm" {
                    io.arg("io");
                }
                io.args(requests.iter().flat_map(|request| ["-c", request]));
                self.run(io, &["-f", format, "-d", "unmap", top])
            }
            Step::Commit(base, keep) => {
                let base = base.map(|base| name(chain.behind(base)));
                let base = base.as_deref().map_or(vec![], |base| vec!["-b", base]);
                let keep: &[&str] = if *keep { &["-d"] } else { &[] };
                self.run(
                    self.image(),
                    &[&["commit", "-q", "-f", format], keep, &base, &[top]].concat(),
                )
            }
            Step::Rebase(onto) => {
                let onto = onto.map(|onto| chain.behind(onto));
                let behind = onto.map_or(String::new(), name);
                let format_of = onto.map_or(vec![], |onto| vec!["-F", self.format_of(onto)]);
                let onto = [vec!["-b", &behind], format_of].concat();
                self.run(
                    self.image(),
                    &[&["rebase", "-q", "-f", format], &onto[..], &[top]].concat(),
                )
            }
            Step::Resize(size) => {
                let size = size.to_string();
                self.run(self.image(), &["resize", "-q", "-f", format, "--shrink", top, &size])
            }
            Step::Convert => {
                self.run(self.image(), &["convert", "-f", format, "-O", "raw", top, "out"])
            }
        }
    }

    fn look(&self, chain: &Chain) -> Seen {
        let map = ["map", "--output=json", "-f", self.format, &name(chain.top())];
        let map = self.run(self.image(), &map).success().stdout;
        let extents: Vec<Extent> = serde_json::from_str(&map).expect("a map");
        let mut bytes = vec![0; place(chain.size())];
        for extent in extents.iter().filter(|extent| extent.data) {
            let image = chain.images[chain.images.len() - 1 - extent.depth];
            let file = match self.format_of(image) {
                "qbm" => data_name(&name(image)),
                _ => name(image),
            };
            let file = File::open(self.folder.join(file)).expect("it is there");
            let part = &mut bytes[place(extent.start)..][..place(extent.length)];
            let offset = extent.offset.expect("data is somewhere");
            file.read_exact_at(part, offset).expect("it is as long");
        }
        Seen { bytes, extents }
    }
}

/// In what the two differ.
fn difference([ours, theirs]: &[Seen; 2], seams: &[u64]) -> Option<String> {
    let maps = || format!("ours\n{:#?}\ntheirs\n{:#?}", ours.extents, theirs.extents);
    if ours.bytes != theirs.bytes {
        let place = ours.bytes.iter().zip(&theirs.bytes).position(|(a, b)| a != b);
        return Some(format!("the bytes differ at {place:?}\n{}", maps()));
    }
    let (mut ours_left, mut theirs_left) = (&ours.extents[..], &theirs.extents[..]);
    for (offset, sector) in (0..).step_by(512).zip(ours.bytes.chunks(512)) {
        let (Some(a), Some(b)) = (at(&mut ours_left, offset), at(&mut theirs_left, offset)) else {
            return Some(format!("the map ends before {offset}\n{}", maps()));
        };
        let compared = !seams.contains(&(offset / CLUSTER)) && !is_zero(sector);
        if compared && (a.depth, a.present) != (b.depth, b.present) {
            return Some(format!("the maps differ at {offset}\n{}", maps()));
        }
    }
    None
}

/// The extent that has `offset`, of those that are `left`: the ones before it are left behind.
fn at<'a>(left: &mut &'a [Extent], offset: u64) -> Option<&'a Extent> {
    while let Some((first, rest)) = left.split_first() {
        if offset < first.start + first.length {
            return Some(first).filter(|first| first.start <= offset);
        }
        *left = rest;
    }
    None
}

/// A place on a disk, which is small.
fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("the disk is small")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sectors, of ones and of zeroes, with these extents: the length and depth of each.
    fn seen(extents: &[(u64, usize)]) -> Seen {
        let mut start = 0;
        let extent = |(length, depth): &(u64, usize)| {
            start += length;
            let (present, data) = (true, true);
            let (length, depth) = (*length, *depth);
            Extent { start: start - length, length, depth, present, data, offset: None }
        };
        let extents = extents.iter().map(extent).collect();
        Seen { bytes: [[1; 512], [0; 512]].concat(), extents }
    }

    #[test]
    fn a_difference_of_the_maps_is_one_where_there_is_data_that_both_put_alike() {
        let differ = |ours: &[(u64, usize)], theirs: &[(u64, usize)], seams: &[u64]| {
            difference(&[seen(ours), seen(theirs)], seams).is_some()
        };
        assert!(!differ(&[(1024, 0)], &[(512, 0), (512, 0)], &[]), "however they are divided");
        assert!(differ(&[(1024, 0)], &[(512, 1), (512, 0)], &[]), "ones in another layer");
        assert!(!differ(&[(1024, 0)], &[(512, 0), (512, 1)], &[]), "zeroes in another layer");
        assert!(!differ(&[(1024, 0)], &[(512, 1), (512, 0)], &[0]), "where a disk ended");
        assert!(differ(&[(1024, 0)], &[(512, 0)], &[]), "a map that ends too early");
    }

    #[test]
    fn a_difference_of_a_byte_is_one() {
        let mut other = seen(&[(1024, 0)]);
        other.bytes[1023] = 1;
        assert!(difference(&[seen(&[(1024, 0)]), other], &[]).is_some());
    }
}
