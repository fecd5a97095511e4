//! Jobs of a server, while guests use its disks.

mod backup;
mod commit;
mod incremental;
mod mirror;
mod stream;
mod verbs;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use iotests::{Served, folder_with_image, qbm};
use qbm_qmp::{Client, ClientError};
use serde_json::{Value, json};

use super::{MIB, ours};

/// How long a job may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The disk `vm`, as clients see it.
const DISK: &str = "nbd+unix:///vm?socket=qbm.sock";

/// A server of the disk `vm` of so many MiB, which has ones in its first, and of a target `copy` of the
/// same size, which is not exported.
struct Scene {
    folder: tempfile::TempDir,
    served: Served,
    monitor: Client,
}

impl Scene {
    fn new(mebibytes: u64) -> Self {
        Self::with_target(mebibytes, mebibytes)
    }

    fn with_target(mebibytes: u64, of_target: u64) -> Self {
        let folder = folder_with_image(mebibytes * MIB);
        let raw = fs::File::create(folder.path().join("copy.raw")).unwrap();
        raw.set_len(of_target * MIB).unwrap();
        ours(folder.path(), &["create", "--data-file", "copy.raw", "copy.qbm"]).success();
        ours(folder.path(), &["bitmap", "--add", "copy.qbm", "nightly"]).success();
        Self::of(folder)
    }

    /// The same in a folder that has the images.
    fn of(folder: tempfile::TempDir) -> Self {
        let scene = Self::start(folder);
        super::qemu_io(scene.path(), DISK, &["write -P 1 0 1M"]);
        scene
    }

    /// The same, without a write.
    fn start(folder: tempfile::TempDir) -> Self {
        let mut command = qbm();
        command.current_dir(folder.path()).args(["serve", "--socket", "qbm.sock"]);
        command.args(["--qmp", "control.qmp", "vm=vm.qbm", "copy=copy.qbm"]);
        let served = Served::spawn(&mut command, 2);
        let mut monitor = Client::connect(&folder.path().join("control.qmp"), &[]).unwrap();
        monitor.execute("nbd-server-remove", &json!({ "name": "copy" })).unwrap();
        Self { folder, served, monitor }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Value {
        match self.monitor.execute(command, arguments) {
            Ok(answer) => answer,
            Err(error) => panic!("{command} {arguments}: {error:?}"),
        }
    }

    /// The words in which `command` is refused.
    fn refused(&mut self, command: &str, arguments: &Value) -> String {
        match self.monitor.execute(command, arguments).unwrap_err() {
            ClientError::Refused { what, .. } => what,
            other => panic!("{command} {arguments}: {other}"),
        }
    }

    /// Begins a mirror of `vm` to `copy` as the job `j`; `more` are its other arguments.
    fn mirror(&mut self, more: &Value) {
        self.execute("blockdev-mirror", &mirror(more));
    }

    /// What is told with the next event `name` of the job `j`; all events until then are forgotten.
    fn event(&mut self, name: &str) -> Value {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let event = self.monitor.next_event(PATIENCE).unwrap().expect("an event in time");
            if event.name == name {
                return event.data;
            }
        }
        panic!("no {name} in time");
    }

    /// Waits until the job is in the state `status`.
    fn status(&mut self, status: &str) {
        while self.event("JOB_STATUS_CHANGE")["status"] != status {}
    }

    /// What is known of the job `j`.
    fn job(&mut self) -> Value {
        self.execute("query-block-jobs", &json!({}))[0].clone()
    }

    /// Stops the server; the images are then as they are on disk.
    fn stop(self) -> tempfile::TempDir {
        drop(self.monitor);
        let (status, complaints) = self.served.stop();
        assert!(status.success(), "{complaints}");
        self.folder
    }
}

/// The arguments of a mirror.
fn mirror(more: &Value) -> Value {
    let mut arguments = json!({ "job-id": "j", "device": "vm", "target": "copy", "sync": "full" });
    let more = more.as_object().unwrap().clone();
    arguments.as_object_mut().unwrap().extend(more);
    arguments
}

/// Asserts that the disks of two images are the same.
fn assert_same(folder: &Path, one: &str, other: &str) {
    let compared = ours(folder, &["compare", one, other]).success().stdout;
    assert_eq!(compared, "Images are identical.\n");
}
