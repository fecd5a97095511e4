//! Several images in one server.

use std::fs;

use iotests::{Served, folder_with_image, qbm};
use qbm_qmp::Client;
use serde_json::json;

use super::{MIB, in_folder, marked, ours, qemu_io};

#[test]
fn several_images_are_served_each_under_its_name() {
    let folder = folder_with_image(16 * MIB);
    let folder = folder.path();
    fs::File::create(folder.join("b.raw")).unwrap().set_len(8 * MIB).unwrap();
    ours(folder, &["create", "--data-file", "b.raw", "b.qbm"]).success();
    let mut command = qbm();
    command.current_dir(folder).args(["serve", "--socket", "qbm.sock", "--bitmap", "nightly"]);
    let served = Served::spawn(command.args(["first disk=vm.qbm", "b.qbm"]), 2);
    let uri = |name: &str| format!("nbd+unix:///{name}?socket={}/qbm.sock", folder.display());
    assert_eq!(served.uris()[0], "nbd+unix:///first%20disk?socket=qbm.sock");
    assert_eq!(served.uris()[1], "nbd+unix:///b.qbm?socket=qbm.sock");

    let listed = in_folder(folder, "nbdinfo", &["--list", "--json", &uri("")]).success().json();
    let told = listed["exports"].as_array().unwrap().iter().map(|export| {
        let context = |name: &str| export["contexts"].as_array().unwrap().contains(&name.into());
        let name = export["export-name"].as_str().unwrap();
        (name, export["export-size"].as_u64().unwrap(), context("qemu:dirty-bitmap:nightly"))
    });
    let expected = [("first disk", 16 * MIB, true), ("b.qbm", 8 * MIB, false)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let socket = folder.join("qbm.sock");
    let listed = in_folder(folder, "qemu-nbd", &["--list", "-k", socket.to_str().unwrap()]);
    let listed = listed.success().stdout;
    assert!(
        listed.contains("exports available: 2") && listed.contains("export: 'b.qbm'"),
        "{listed}"
    );

    qemu_io(folder, &uri("first%20disk"), &["write 1M 64k", "flush"]);
    qemu_io(folder, &uri(""), &["write 2M 64k", "flush"]);
    qemu_io(folder, &uri("b.qbm"), &["write -P 3 1M 1M", "flush"]);
    // Each has a control of its own.
    ours(folder, &["bitmap", "--add", "b.qbm", "weekly"]).success();
    qemu_io(folder, &uri("b.qbm"), &["write -P 3 4M 64k", "flush"]);
    assert!(served.stop().0.success());
    assert_eq!(marked(folder), [16, 32]);
    let map = ["map", "--bitmap", "weekly", "--output", "json", "b.qbm"];
    let map = ours(folder, &map).success().json();
    let dirty: Vec<_> =
        map.as_array().unwrap().iter().filter(|extent| extent["dirty"] == true).collect();
    assert_eq!((dirty.len(), &dirty[0]["start"]), (1, &(4 * MIB).into()));
}

#[test]
fn one_monitor_controls_several_images_and_another_program_finds_its_own() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    fs::File::create(folder.join("b.raw")).unwrap().set_len(8 * MIB).unwrap();
    ours(folder, &["create", "--data-file", "b.raw", "b.qbm"]).success();
    let mut command = qbm();
    command.current_dir(folder).args(["serve", "--socket", "qbm.sock", "--qmp", "all.qmp"]);
    let served = Served::spawn(command.args(["a=vm.qbm", "b=b.qbm"]), 2);

    let mut monitor = Client::connect(&folder.join("all.qmp"), &[]).unwrap();
    let nodes = monitor.execute("query-named-block-nodes", &json!({})).unwrap();
    let names = nodes.as_array().unwrap().iter().map(|node| node["node-name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b"]);
    let add = json!({ "node": "b", "name": "x", "persistent": true });
    monitor.execute("block-dirty-bitmap-add", &add).unwrap();
    let other =
        json!({ "node": "a", "target": "nightly", "bitmaps": [{ "node": "b", "name": "x" }] });
    monitor.execute("block-dirty-bitmap-merge", &other).unwrap();
    let add = |node: &str| {
        let data = json!({ "node": node, "name": "both", "persistent": true });
        json!({ "type": "block-dirty-bitmap-add", "data": data })
    };
    let none =
        json!({ "type": "block-dirty-bitmap-clear", "data": { "node": "b", "name": "none" } });
    let refused = json!({ "actions": [add("a"), add("b"), none] });
    monitor.execute("transaction", &refused).unwrap_err();
    let both = json!({ "actions": [add("a"), add("b")] });
    // Would be refused if anything were left of the one before.
    monitor.execute("transaction", &both).unwrap();
    let exports = monitor.execute("query-block-exports", &json!({})).unwrap();
    let told =
        exports.as_array().unwrap().iter().map(|export| (&export["id"], &export["node-name"]));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(&json!("serve-a"), &json!("a")), (&json!("serve-b"), &json!("b"))]
    );

    ours(folder, &["bitmap", "--qmp", "all.qmp", "--add", "b.qbm", "weekly"]).success();
    let refused = ours(folder, &["bitmap", "--qmp", "all.qmp", "--add", "c.qbm", "weekly"]).code(1);
    assert_eq!(refused.stderr, "qbm: all.qmp: c.qbm is no node there\n");
    assert!(served.stop().0.success());
    let info = ours(folder, &["info", "--output", "json", "b.qbm"]).success().json();
    let bitmaps = info.pointer("/format-specific/data/bitmaps").unwrap().as_array().unwrap();
    assert_eq!(bitmaps.len(), 3, "{info}");
}

#[test]
fn images_that_cannot_be_told_apart_are_refused_and_left_closed() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let refused = |arguments: &[&str], why: &str| {
        let refused = ours(folder, &[&["serve", "--socket", "s"], arguments].concat()).code(1);
        assert_eq!(refused.stderr, format!("qbm: {why}\n"));
    };
    let twice = "two images are called 'vm.qbm'; NAME=IMAGE gives one of them another name";
    refused(&["vm.qbm", "vm.qbm"], twice);
    let one = "--export-name and --data-file are for one image; NAME=IMAGE names several";
    refused(&["-x", "n", "a=vm.qbm", "vm.qbm"], one);
    refused(&["-x", "n", "a=vm.qbm"], "--export-name: the image has a name already");
    refused(&["-B", "none", "a=vm.qbm"], "vm.qbm: Dirty bitmap 'none' not found");
    let missing = ours(folder, &["serve", "--socket", "s", "vm.qbm", "other.qbm"]).code(1);
    assert!(missing.stderr.contains("other.qbm: open: No such file"), "{}", missing.stderr);
    let info = ours(folder, &["info", "--output", "json", "vm.qbm"]).success().json();
    assert_ne!(info["dirty-flag"], true, "{info}");
}
