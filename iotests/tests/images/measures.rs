//! `measure`, and the range that `map` shows.

use serde_json::Value;

use crate::scene::{Folder, KIB, MIB};

/// What is measured is what a conversion then takes.
#[test]
fn a_conversion_takes_what_was_measured() {
    let folder = Folder::with_image();
    folder.ours("bitmap --add -g 512 vm.qbm a").success();
    folder.ours("bitmap --add vm.qbm b").success();
    let measured = folder.ours("measure -O qbm --output json vm.qbm").success().json();
    folder.ours("convert -O qbm vm.qbm copy.qbm").success();
    let required = measured["required"].as_u64().unwrap();
    assert_eq!(required, folder.space("copy.raw") + folder.space("copy.qbm"));
    assert_eq!(measured["bitmaps"], 8 * KIB, "16384 bits and 128 bits, in blocks of 4 KiB");
    assert_eq!(measured["fully-allocated"], 8 * MIB + 4 * KIB);
    let human = folder.ours("measure -O qbm vm.qbm").success().stdout;
    let expected = format!(
        "required size: {required}\nfully allocated size: {}\nbitmaps size: {}\n",
        8 * MIB + 4 * KIB,
        8 * KIB
    );
    assert_eq!(human, expected);
}

/// A raw disk is measured as qemu-img measures it.
#[test]
fn a_raw_disk_is_measured_as_by_qemu_img() {
    let folder = Folder::with_image();
    for arguments in ["-O raw --size 1G", "--size 1G", "-f raw -O raw vm.raw", "-f raw vm.raw"] {
        for output in ["human", "json"] {
            let measure = format!("measure --output {output} {arguments}");
            let (ours, theirs) = (folder.ours(&measure).success(), folder.theirs(&measure));
            if output == "json" {
                assert_eq!(ours.json(), theirs.success().json(), "{measure}");
            } else {
                assert_eq!(ours.stdout, theirs.success().stdout, "{measure}");
            }
        }
    }
    folder.ours("measure").code(1);
    folder.ours("measure --size 1G vm.qbm").code(1);
}

/// A part of the map is the map of the part.
#[test]
fn a_part_of_the_map_is_that_of_qemu_img() {
    let folder = Folder::with_image();
    for part in [
        "--start-offset 512k",
        "--max-length 1500k",
        "--start-offset 512k --max-length 3M",
        "--start-offset 5M --max-length 20M",
        "--start-offset 1M --max-length 1M",
    ] {
        for output in ["human", "json"] {
            let map = |disk: &str| format!("map --output {output} {part} {disk}");
            let theirs = folder.theirs(&map("-f raw vm.raw")).success();
            for disk in ["vm.qbm", "-f raw vm.raw"] {
                let ours = folder.ours(&map(disk)).success();
                // Only newer ones tell of compression.
                let plain = |said: &str| said.replace(" \"compressed\": false,", "");
                assert_eq!(plain(&ours.stdout), plain(&theirs.stdout), "{part} of {disk}");
            }
        }
    }
}

/// So it is for the marks of a bitmap.
#[test]
fn a_part_of_the_marks_is_shown() {
    let folder = Folder::with_image();
    folder.ours("bitmap --add -g 64k vm.qbm b").success();
    folder.io("vm.qbm", &["write -q 1M 1M"]);
    let map = |part: &str| {
        let map =
            folder.ours(&format!("map --bitmap b --output json {part} vm.qbm")).success().json();
        let range = |entry: &Value| {
            let number = |name: &str| entry[name].as_u64().unwrap() >> 10;
            (number("start"), number("length"), entry["dirty"] == true)
        };
        map.as_array().unwrap().iter().map(range).collect::<Vec<_>>()
    };
    assert_eq!(map("-s 512k -l 1M"), [(512, 512, false), (1024, 512, true)]);
    assert_eq!(map("-s 1100k -l 1k"), [(1100, 1, true)]);
    assert_eq!(map("-s 9M"), []);
    folder.ours("map --bitmap missing -s 9M vm.qbm").code(1);
}
