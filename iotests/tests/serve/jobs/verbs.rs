//! What a job answers in each of its states, beside QEMU's.

use std::fs;
use std::path::Path;

use iotests::{run, tool};
use qbm_qmp::{Client, ClientError};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::super::in_folder;
use super::{PATIENCE, Scene};

/// QEMU's server of two disks of the same names and sizes.
struct Rival(Pid);

impl Rival {
    fn start(folder: &Path, mebibytes: u64) -> (Self, Client) {
        let mut command = tool("qemu-storage-daemon");
        command.current_dir(folder).args(["--daemonize", "--pidfile", "rival.pid"]);
        command.args(["--chardev", "socket,path=rival.qmp,server=on,wait=off,id=c"]);
        command.args(["--monitor", "chardev=c"]);
        for name in ["vm", "copy"] {
            let file = format!("rival-{name}.raw");
            let size = format!("{mebibytes}M");
            in_folder(folder, "qemu-img", &["create", "-f", "raw", &file, &size]).success();
            command.arg("--blockdev");
            command.arg(format!("driver=file,filename={file},node-name=file-{name}"));
            command.args(["--blockdev", &format!("driver=raw,file=file-{name},node-name={name}")]);
        }
        run(&mut command).success();
        let pid = fs::read_to_string(folder.join("rival.pid")).unwrap();
        let rival = Self(Pid::from_raw(pid.trim().parse().unwrap()).unwrap());
        let write = ["-f", "raw", "-c", "write -P 1 0 1M", "rival-vm.raw"];
        // Not locked by the daemon before it is used.
        let _written = in_folder(folder, "qemu-io", &write);
        (rival, Client::connect(&folder.join("rival.qmp"), &[]).unwrap())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = kill_process(self.0, Signal::KILL);
    }
}

/// Asks `verbs`, and all that changes nothing that matters here, in an order in which each has an effect
/// that the next one shows.
fn ask_all(monitor: &mut Client, verbs: &[&str]) -> Vec<(String, String)> {
    let by_id = |verb: &str, id: &str| (verb.to_owned(), json!({ "id": id }));
    let by_device = |verb: &str| (verb.to_owned(), json!({ "device": "j" }));
    let mut asked = Vec::new();
    for verb in verbs.iter().chain(&["resume", "pause", "pause", "resume", "resume"]) {
        asked.push(by_id(&format!("job-{verb}"), "j"));
    }
    for verb in ["pause", "resume", "resume"] {
        asked.push(by_device(&format!("block-job-{verb}")));
    }
    for speed in [-1, 0] {
        let arguments = json!({ "device": "j", "speed": speed });
        asked.push(("block-job-set-speed".to_owned(), arguments));
    }
    asked.push(by_id("job-pause", "none"));
    asked.push(("block-job-complete".to_owned(), json!({ "device": "none" })));
    let ask = |(command, arguments): (String, Value)| {
        let answer = match monitor.execute(&command, &arguments) {
            Ok(value) => value.to_string(),
            Err(ClientError::Refused { class, what }) => format!("{class}: {what}"),
            Err(other) => panic!("{command}: {other}"),
        };
        (format!("{command} {arguments}"), answer)
    };
    asked.into_iter().map(ask).collect()
}

/// Waits until the job is in the state `status`.
fn wait(monitor: &mut Client, status: &str) {
    loop {
        let event = monitor.next_event(PATIENCE).unwrap().expect("an event in time");
        if event.name == "JOB_STATUS_CHANGE" && event.data["status"] == status {
            return;
        }
    }
}

/// 041 and 129: in each state of a mirror every verb has the answer that QEMU gives.
#[test]
fn a_job_answers_in_each_state_as_qemu_does() {
    let mut scene = Scene::new(4);
    let (_rival, mut rival) = Rival::start(scene.path(), 4);
    let both = [&mut scene.monitor, &mut rival];
    let answers = both.map(|monitor| {
        let begin = super::mirror(&json!({ "auto-finalize": false, "auto-dismiss": false }));
        let mut answers = Vec::new();
        monitor.execute("blockdev-mirror", &begin).unwrap();
        wait(monitor, "ready");
        answers.extend(ask_all(monitor, &["finalize", "dismiss"]));
        monitor.execute("job-complete", &json!({ "id": "j" })).unwrap();
        wait(monitor, "pending");
        answers.extend(ask_all(monitor, &["complete", "dismiss"]));
        monitor.execute("job-finalize", &json!({ "id": "j" })).unwrap();
        wait(monitor, "concluded");
        answers.extend(ask_all(monitor, &["complete", "finalize", "cancel"]));
        answers.extend(ask_all(monitor, &["dismiss", "dismiss"]));
        answers
    });
    let [ours, theirs] = answers;
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        assert_eq!(ours, theirs);
    }
    scene.stop();
}

/// 129: a slow job moves no more than it may, and neither that nor a pause keeps a server from ending.
#[test]
fn a_slow_or_paused_job_keeps_to_its_speed_and_does_not_keep_a_server_from_ending() {
    for paused in [false, true] {
        let mut scene = Scene::new(16);
        scene.mirror(&json!({ "speed": 1 }));
        if paused {
            scene.execute("job-pause", &json!({ "id": "j" }));
            scene.status("paused");
        }
        // It may not have looked at the disk yet.
        let mut job = scene.job();
        while job["len"] == 0 {
            job = scene.job();
        }
        assert_eq!(job["speed"], 1);
        assert!(job["offset"].as_u64().unwrap() < job["len"].as_u64().unwrap(), "{job}");
        scene.stop();
    }
}

/// 139: a node that a job uses is nobody else's.
#[test]
fn a_node_that_a_job_uses_can_have_no_other_job() {
    let mut scene = Scene::new(4);
    scene.mirror(&json!({ "speed": 1 }));
    for arguments in [json!({ "job-id": "k" }), json!({ "device": "copy", "target": "vm" })] {
        let what = scene.refused("blockdev-mirror", &super::mirror(&arguments));
        assert!(what.contains("busy") || what.contains("exported"), "{what}");
    }
    let what = scene.refused("block-stream", &json!({ "device": "vm" }));
    assert_eq!(what, "Node 'vm' is busy: block device is in use by block job: mirror");
    scene.stop();
}
