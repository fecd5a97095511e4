//! The programs in `contrib/` that answer to the names of QEMU's.

use std::path::Path;
use std::process::Command;

use iotests::{Finished, qbm, run};

use crate::scene::{Folder, MIB};

/// Runs a shell script in `folder` that finds the wrappers first where it looks for `qemu-img`.
fn script(folder: &Folder, text: &str) -> Finished {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib");
    let path = format!("{}:{}", contrib.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-euc", text]).current_dir(folder.path(""));
    run(shell.env("PATH", path).env("QBM", qbm().get_program()))
}

/// The kind of script that people have, with the format as its one parameter, does the same for
/// qbm as for a format of QEMU.
#[test]
fn a_script_for_qemu_img_runs_unchanged() {
    let text = r#"
        set -- "$FORMAT"
        qemu-img create -q -f raw golden.raw 4M
        qemu-io -f raw -c 'write -q -P 1 0 1M' -c 'write -q -P 2 3M 64k' golden.raw
        qemu-img convert -f raw -O $1 golden.raw vm.$1
        qemu-img create -q -f $1 data.$1 2M
        qemu-img bitmap -f $1 --add -g 64k vm.$1 nightly
        qemu-img bitmap -f $1 --add vm.$1 other
        qemu-img bitmap -f $1 --disable vm.$1 other
        qemu-io -f $1 -c 'write -q -P 3 2M 128k' -c 'read -q -P 2 3M 64k' vm.$1
        qemu-img resize -q -f $1 vm.$1 +4M
        qemu-img resize -q -f $1 --shrink vm.$1 6M
        qemu-img check -q -f $1 vm.$1
        qemu-img info -f $1 --output=json vm.$1 > info
        qemu-img map -f $1 --output=json vm.$1 > map
        qemu-img convert -q -f $1 -O raw vm.$1 out.raw
        qemu-img compare -f $1 -F raw vm.$1 out.raw
        qemu-img compare -q -f $1 -F raw vm.$1 golden.raw || echo differ $?
        qemu-img dd -f $1 -O raw bs=1M count=3 skip=2 if=vm.$1 of=part.raw
        qemu-img measure -O raw -f $1 vm.$1
        qemu-img info -f $1 missing.$1 2> /dev/null || echo missing $?
        qemu-img bitmap -f $1 --remove vm.$1 nightly
        qemu-img bitmap -f $1 --remove vm.$1 nightly 2> /dev/null || echo gone $?
    "#;
    let done = ["qbm", "qcow2"].map(|format| {
        let folder = Folder::new();
        let said = script(&folder, &text.replace("$FORMAT", format)).success().stdout;
        let info = std::fs::read_to_string(folder.path("info")).unwrap();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!((&info["virtual-size"], &info["format"]), (&(6 * MIB).into(), &format.into()));
        let bitmaps = info["format-specific"]["data"]["bitmaps"].as_array().unwrap();
        let mut bitmaps: Vec<_> = bitmaps
            .iter()
            .map(|it| format!("{} {} {}", it["name"], it["granularity"], it["flags"]))
            .collect();
        bitmaps.sort();
        assert!(folder.path("map").metadata().unwrap().len() > 0);
        (said, bitmaps, folder.bytes("out.raw"), folder.bytes("part.raw"))
    });
    let [ours, theirs] = done;
    assert_eq!((&ours.0, &ours.1), (&theirs.0, &theirs.1));
    assert!((ours.2, ours.3) == (theirs.2, theirs.3), "the same bytes");
}

/// What names another format, or none, is the business of the real programs.
#[test]
fn other_formats_go_to_the_real_programs() {
    let folder = Folder::new();
    let text = "qemu-img --version; qemu-img create -f qcow2 x.qcow2 1M; qemu-img info x.qcow2; \
                qemu-io -c 'write 0 64k' x.qcow2 > /dev/null; qemu-img info missing || echo $?";
    let said = script(&folder, text).success().stdout;
    assert!(said.starts_with("qemu-img version") && said.contains("file format: qcow2"), "{said}");
}
