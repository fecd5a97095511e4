//! Overlays side by side with qcow2 over the same raw disk: what is where, and what is behind.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use iotests::{Finished, qbm, run, tool};
use serde_json::Value;

fn ours(folder: &Path, arguments: &[&str]) -> Finished {
    run(qbm().current_dir(folder).args(arguments)).success()
}

fn theirs(folder: &Path, program: &str, arguments: &[&str]) -> Finished {
    run(tool(program).current_dir(folder).args(arguments)).success()
}

/// A raw disk of 1 MiB, with `middle` of 2 MiB over it and `top` of 4 MiB over that, of both kinds.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let base = File::create(path.join("base.raw")).unwrap();
    base.write_all_at(&[1; 128 << 10], 0).unwrap();
    base.write_all_at(&[1; 64 << 10], 512 << 10).unwrap();
    base.set_len(1 << 20).unwrap();
    let layers = [("middle", "base.raw", "raw", "2M"), ("top", "middle", "", "4M")];
    for (name, behind, format, size) in layers {
        let suffixed =
            |suffix| if format == "raw" { behind.into() } else { format!("{behind}.{suffix}") };
        let named = |other| if format == "raw" { "raw" } else { other };
        let (image, behind) = (format!("{name}.qbm"), suffixed("qbm"));
        ours(path, &["create", "-b", &behind, "-F", named("qbm"), &image, size]);
        let (image, behind) = (format!("{name}.qcow2"), suffixed("qcow2"));
        let options = ["create", "-q", "-f", "qcow2", "-b", &behind, "-F", named("qcow2"), &image];
        theirs(path, "qemu-img", &[&options[..], &[size]].concat());
        // Within a cluster, across two, and past the end of what is behind.
        let writes = match name {
            "middle" => ["write -P 2 70k 4k", "write -P 3 1536k 4k", "write -P 4 1000k 100k"],
            _ => ["write -P 5 200k 4k", "write -P 6 3000k 8k", "write -P 7 1023k 2k"],
        };
        for write in writes {
            ours(path, &["io", "-c", write, &format!("{name}.qbm")]);
            theirs(path, "qemu-io", &["-f", "qcow2", "-c", write, &format!("{name}.qcow2")]);
        }
    }
    folder
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn an_overlay_maps_and_reads_as_qcow2_does() {
    let folder = folder();
    let path = folder.path();
    let facts = |map: Value| -> Vec<_> {
        let extents = map.as_array().unwrap().clone();
        let members = ["start", "length", "depth", "present", "zero", "data"];
        extents.into_iter().map(|extent| members.map(|member| extent[member].clone())).collect()
    };
    let mine = facts(json(&ours(path, &["map", "--output=json", "top.qbm"])));
    let qcow2 = ["map", "--output=json", "-f", "qcow2", "top.qcow2"];
    assert_eq!(mine, facts(json(&theirs(path, "qemu-img", &qcow2))));
    ours(path, &["convert", "-O", "raw", "top.qbm", "mine.raw"]);
    theirs(path, "qemu-img", &["convert", "-O", "raw", "top.qcow2", "theirs.raw"]);
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(read("mine.raw") == read("theirs.raw"), "they read differently");
}

#[test]
fn the_images_behind_one_are_told_as_qemu_img_tells_them() {
    let folder = folder();
    let path = folder.path();
    let facts = |info: Value, suffix: &str| -> Vec<_> {
        let images = info.as_array().unwrap().clone();
        let members = ["filename", "format", "virtual-size", "cluster-size", "backing-filename"];
        let fact = |image: &Value, member: &str| image[member].to_string().replace(suffix, "X");
        images.iter().map(|image| members.map(|member| fact(image, member))).collect()
    };
    let chain = ["info", "--backing-chain", "--output=json"];
    let mine = json(&ours(path, &[&chain[..], &["top.qbm"]].concat()));
    let qcow2 = json(&theirs(path, "qemu-img", &[&chain[..], &["top.qcow2"]].concat()));
    assert_eq!(facts(mine, "qbm"), facts(qcow2, "qcow2"));
}
