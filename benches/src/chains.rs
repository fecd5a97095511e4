//! Overlays beside qcow2: commit, rebase, convert, reading through a chain, and writes that allocate.
//!
//! Either side has images of its own over one raw disk, made anew for each round. The disks of the two are
//! compared after each verb.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use benches::{compare, make_disk, time};

use crate::Row;

const SIZE: u64 = 256 << 20;
const CLUSTER: u64 = 64 << 10;
const ROUNDS: usize = 5;
/// Images of the chain that is read through, its base included.
const DEPTH: u64 = 8;
/// Writes that allocate, each to a cluster of its own.
const WRITES: u64 = 2000;

/// One of the two formats, through its programs.
struct Side<'f> {
    folder: &'f Path,
    format: &'static str,
}

impl Side<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let own = std::env::current_exe()?.with_file_name("qbm");
        let mut command = match (self.format, program) {
            ("qbm", "qemu-io") => {
                let mut command = Command::new(own);
                command.arg("io");
                command
            }
            ("qbm", _) => Command::new(own),
            _ => Command::new(program),
        };
        let output = command.current_dir(self.folder).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {said}");
        Ok(())
    }

    /// The name of the image at a place of the chain; 0 is the base.
    fn name(&self, place: u64) -> String {
        if place == 0 { "base.raw".to_owned() } else { format!("{place}.{}", self.format) }
    }

    /// Runs commands of qemu-io on the image at `place`.
    fn io(&self, place: u64, commands: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        let commands: Vec<String> = commands.into_iter().collect();
        let name = self.name(place);
        let mut arguments = vec!["-f", self.format];
        arguments.extend(commands.iter().flat_map(|command| ["-c", command.as_str()]));
        arguments.push(&name);
        self.run("qemu-io", &arguments)
    }

    /// Makes the chain up to `top`, of which each image but the base has every eighth MiB, from its own
    /// place on, if it is to be `filled`.
    fn chain(&self, top: u64, filled: bool) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(self.folder)? {
            let entry = entry?;
            if entry.file_name() != "base.raw" {
                std::fs::remove_file(entry.path())?;
            }
        }
        for place in 1..=top {
            let (name, behind) = (self.name(place), self.name(place - 1));
            let format = if place == 1 { "raw" } else { self.format };
            self.run(
                "qemu-img",
                &["create", "-q", "-f", self.format, "-b", &behind, "-F", format, &name],
            )?;
            if !filled {
                continue;
            }
            let offsets = (place % DEPTH..SIZE >> 20).step_by(usize::try_from(DEPTH)?);
            self.io(place, offsets.map(|mib| format!("write -q -P {place} {mib}M 1M")))?;
        }
        Ok(())
    }

    /// Reads the disk of the image at `place` into a raw file.
    fn disk(&self, place: u64) -> anyhow::Result<Vec<u8>> {
        self.convert(place)?;
        Ok(std::fs::read(self.folder.join("out.raw"))?)
    }

    fn convert(&self, place: u64) -> anyhow::Result<()> {
        let name = self.name(place);
        // Flushed at its end, as ours is.
        let cache = if self.format == "qbm" { vec![] } else { vec!["-t", "writeback"] };
        let arguments = ["-f", self.format, "-O", "raw", &name, "out.raw"];
        self.run("qemu-img", &[&["convert"], &cache[..], &arguments].concat())
    }
}

/// What is measured: its name and goal, how long a chain it takes, and what is done to its top.
struct Verb {
    what: &'static str,
    goal: &'static str,
    top: u64,
    filled: bool,
    work: fn(&Side<'_>) -> anyhow::Result<()>,
}

const VERBS: [Verb; 5] = [
    Verb {
        what: "commit of 32 MiB",
        goal: "1",
        top: 2,
        filled: true,
        work: |side| side.run("qemu-img", &["commit", "-q", "-f", side.format, &side.name(2)]),
    },
    Verb {
        what: "rebase past an image with 32 MiB",
        goal: "1",
        top: 2,
        filled: true,
        work: |side| {
            let rebase = ["rebase", "-q", "-f", side.format, "-b", "base.raw", "-F", "raw"];
            side.run("qemu-img", &[&rebase[..], &[&side.name(2)]].concat())
        },
    },
    Verb {
        what: "convert of 256 MiB",
        goal: "1",
        top: 2,
        filled: true,
        work: |side| side.convert(2),
    },
    Verb {
        what: "reading 256 MiB through a chain of 8",
        goal: "1",
        top: DEPTH - 1,
        filled: true,
        work: |side| side.io(DEPTH - 1, (0..SIZE >> 20).map(|mib| format!("read -q {mib}M 1M"))),
    },
    Verb {
        what: "2000 writes of 4 KiB that allocate",
        goal: "0.67",
        top: 1,
        filled: false,
        work: |side| {
            let clusters = SIZE / CLUSTER;
            // Each once, far from the last one.
            let offset = |at: u64| at * 1231 % clusters * CLUSTER + at % 16 * 4096;
            let writes = (0..WRITES).map(|at| format!("write -q -P 9 {} 4k", offset(at)));
            side.io(1, writes.chain(["flush".to_owned()]))
        },
    },
];

pub(crate) fn rows(place: &str, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let sides = ["qbm", "qcow2"].map(|format| (folder.join(format), format));
    for (folder, _) in &sides {
        std::fs::create_dir(folder)?;
        make_disk(&folder.join("base.raw"), SIZE, 2 << 20)?;
    }
    let sides = sides.each_ref().map(|(folder, format)| Side { folder, format });
    let mut rows = Vec::new();
    for Verb { what, goal, top, filled, work } in &VERBS {
        let round = |side: &Side<'_>| -> anyhow::Result<Duration> {
            side.chain(*top, *filled)?;
            time(|| work(side))
        };
        let comparison = compare(ROUNDS, || round(&sides[0]), || round(&sides[1]))?;
        let disks = [sides[0].disk(*top)?, sides[1].disk(*top)?];
        ensure!(disks[0] == disks[1], "{what}: the disks differ");
        rows.push(Row {
            what: format!("{what}, {place}"),
            ours: comparison.ours.to_string(),
            rival: format!("qcow2: {}", comparison.theirs),
            figure: format!("{:.2} times", comparison.ratio),
            goal,
        });
    }
    Ok(rows)
}
