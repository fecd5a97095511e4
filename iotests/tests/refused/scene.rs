//! A folder with an image in it, and beside it what belongs to somebody else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use iotests::{qbm, refused, run};
use tempfile::TempDir;

/// Bytes of the disk.
pub(crate) const SIZE: u64 = 1 << 20;

/// Every command that opens an image to read from it. `{}` is the image.
pub(crate) const READERS: &[&[&str]] = &[
    &["info", "--marks", "{}"],
    &["map", "{}"],
    &["map", "--bitmap", "b", "{}"],
    &["check", "{}"],
    &["compare", "-F", "raw", "{}", "../other/disk.raw"],
    &["io", "-r", "-c", "read 0 4k", "{}"],
];

/// Every command that opens an image to write to it.
pub(crate) const WRITERS: &[&[&str]] = &[
    &["check", "--repair", "all", "{}"],
    &["bitmap", "--add", "{}", "c"],
    &["bitmap", "--clear", "{}", "b"],
    &["resize", "{}", "2M"],
    &["io", "-c", "write 0 4k", "{}"],
    &["backup", "{}", "../points"],
];

/// The folder.
pub(crate) struct Scene {
    folder: TempDir,
}

impl Scene {
    /// With the disk `disk.raw`, the bitmap file `b.bits` for it, and no descriptor yet.
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// The same in `folder`.
    pub(crate) fn within(folder: TempDir) -> Self {
        let scene = Self { folder };
        for folder in ["image/sub", "other", "points", "config"] {
            fs::create_dir_all(scene.path(folder)).unwrap();
        }
        for disk in ["image/disk.raw", "other/disk.raw"] {
            let disk = File::create(scene.path(disk)).unwrap();
            disk.set_len(SIZE).unwrap();
            disk.write_all_at(&[1; 4096], 0).unwrap();
        }
        fs::write(scene.path("image/b.bits"), [0; 2]).unwrap();
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path in the image's folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.path("image").join(name)
    }

    /// Makes `text` the descriptor.
    pub(crate) fn describe(&self, text: impl AsRef<[u8]>) {
        fs::write(self.beside("i.qbm"), text).unwrap();
    }

    /// `qbm` with these words, of which `{}` is the image.
    pub(crate) fn qbm(&self, words: &[&str]) -> Command {
        let mut command = qbm();
        command.current_dir(self.path("image")).env("XDG_CONFIG_HOME", self.path("config"));
        command.args(words.iter().map(|word| if *word == "{}" { "i.qbm" } else { word }));
        command
    }

    /// Each of `commands` must be refused with `complaint`; a `*` at its end is for any rest.
    #[track_caller]
    pub(crate) fn refuse(&self, commands: &[&[&str]], complaint: &str) {
        for words in commands {
            let line = match refused(self.folder.path(), &self.qbm(words)) {
                Ok(line) => line,
                Err(why) => panic!("{complaint}: {why}"),
            };
            match complaint.strip_suffix('*') {
                Some(start) => assert!(line.starts_with(start), "{words:?}\n{line}\n{complaint}"),
                None => assert_eq!(line, complaint, "{words:?}"),
            }
        }
    }

    /// Each of `commands` must do its work.
    #[track_caller]
    pub(crate) fn accept(&self, commands: &[&[&str]]) {
        for words in commands {
            run(&mut self.qbm(words)).success();
        }
    }
}

/// The descriptor of `data`, with dirty bitmaps of these names and files.
pub(crate) fn descriptor(data: &str, bitmaps: &[(&str, &str)]) -> String {
    let bitmap = |(name, file): &(&str, &str)| {
        let file = quoted(file);
        format!(r#""{name}": {{"file": {file}, "granularity-bytes": 65536, "type": "dirty"}}"#)
    };
    document(data, &bitmaps.iter().map(bitmap).collect::<Vec<_>>().join(","))
}

/// The descriptor of `data`, with an allocation bitmap and what is behind it.
pub(crate) fn layer(data: &str, bits: &str, backing: &str, format: &str) -> String {
    let bits = quoted(bits);
    let backing = quoted(backing);
    let bitmap = format!(
        r#""a": {{"file": {bits}, "granularity-bytes": 65536, "type": "allocation",
                  "backing": {{"file": {backing}, "format": "{format}"}}}}"#
    );
    document(data, &bitmap)
}

fn document(data: &str, bitmaps: &str) -> String {
    let data = quoted(data);
    format!(
        r#"{{"QBM": {{"version": 1, "image": {{"file": {data}, "format": "raw"}}, "bitmaps": {{{bitmaps}}}}}}}"#
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
