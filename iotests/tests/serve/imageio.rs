//! oVirt's imageio: the NBD client of a backup program, in Python, from the Python Package Index.

use iotests::{Served, folder_with_image, run, tool};

use super::{GRANULE, MIB, in_folder, marked, python_package, qemu_io};

const PACKAGE: &str = "ovirt-imageio==2.5.1";

/// Copies what it is told is dirty, as an incremental backup does, and tells what it was told.
const SCRIPT: &str = r#"
import json, sys
from ovirt_imageio._internal import nbd, nbdutil
with nbd.Client(nbd.UnixAddress("qbm.sock"), dirty=True) as client:
    assert client.dirty_bitmap == "qemu:dirty-bitmap:nightly", client.dirty_bitmap
    dirty, offset = [], 0
    with open("backup.raw", "r+b") as backup:
        for extent in nbdutil.extents(client, dirty=True):
            if extent.dirty:
                if dirty and sum(dirty[-1]) == offset:
                    # It tells apart what is zero.
                    dirty[-1][1] += extent.length
                else:
                    dirty.append([offset, extent.length])
                backup.seek(offset)
                backup.write(client.read(offset, extent.length))
            offset += extent.length
    assert offset == client.export_size
    zeroes = [extent.zero for extent in nbdutil.extents(client)]
    client.write(15 << 20, b"x" * 4096)
    client.zero(14 << 20, 65536)
    client.flush()
print(json.dumps([dirty, zeroes]))
"#;

#[test]
fn imageio_backs_up_the_granules_that_were_written() {
    let package = python_package(PACKAGE);
    let folder = folder_with_image(16 * MIB);
    let folder = folder.path();
    in_folder(folder, "cp", &["--sparse=always", "vm.raw", "backup.raw"]).success();
    let served = Served::start(folder, &["--bitmap", "nightly", "vm.qbm"]);
    let writes = ["write -P 1 64k 64k", "write -P 2 1M 3M", "write -P 3 10M 1k", "flush"];
    qemu_io(folder, served.uri(), &writes);
    in_folder(folder, "cp", &["vm.raw", "expected.raw"]).success();
    let mut python = tool("python3");
    python.current_dir(folder).env("PYTHONPATH", package).args(["-c", SCRIPT]);
    let told = run(&mut python).success().json();
    let granules = |offset: u64, length: u64| [offset, length].map(|count| count * GRANULE);
    let expected = [granules(1, 1), granules(16, 48), granules(160, 1)];
    assert_eq!(told[0], serde_json::json!(expected));
    assert_eq!(told[1], serde_json::json!([true, false, true, false, true, false, true]));
    in_folder(folder, "cmp", &["expected.raw", "backup.raw"]).success();
    assert!(served.stop().0.success());
    let mut expected: Vec<u64> = vec![1];
    expected.extend((16..64).chain([160, 224, 240]));
    assert_eq!(marked(folder), expected);
}
