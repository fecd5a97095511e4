//! A real Linux guest with its disk on `qbm serve`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod initramfs;
mod machine;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use iotests::{Served, folder_with_image, qbm, run, tool};

use self::initramfs::NETWORK;
use self::machine::Machine;

const SIZE: u64 = 256 << 20;

/// All files below `folder`, with their sums, as a text.
const MANIFEST: &str = "find . -type f | sort | xargs -r sha256sum";

fn serve(folder: &Path) -> Served {
    Served::start(folder, &["--bitmap", "nightly", "vm.qbm"])
}

/// What the backup says of itself.
fn back_up(folder: &Path) -> String {
    let backup = ["backup", "--bitmap", "nightly", "vm.qbm", "points"];
    run(qbm().current_dir(folder).args(backup)).success().stdout
}

/// The guest makes ext4 and writes trees; two backups are taken while it writes, and one while the server is
/// away, which is killed when all is quiet and in the middle of writes, and started again. The guest notices
/// nothing, and what is restored of the last increment is a sound file system with its trees.
#[test]
fn a_guest_goes_on_over_kills_and_its_backups_are_its_disk() {
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = serve(folder);
    let mut guest = Machine::boot(folder, "qbm.sock");
    guest.run("/host/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt");
    guest.say("mkdir /mnt/first && cp -a /host /lib /m /mnt/first/ && sync");
    assert!(back_up(folder).contains("full of \"nightly\""));
    guest.hear();

    served.kill();
    let served = serve(folder);
    guest.run("rm -r /mnt/first/m && mkdir -p /mnt/second && cp -a /m /mnt/second/ && sync");

    // In the middle of writes, as far as the disk shows.
    let blocks = || fs::metadata(folder.join("vm.raw")).unwrap().blocks();
    let before = blocks();
    guest.say("dd if=/dev/urandom of=/mnt/big bs=64k count=400 2> /dev/null && sync");
    while blocks() < before + 2000 {
        std::thread::yield_now();
    }
    served.kill();
    let served = serve(folder);
    guest.hear();
    guest.say(
        "dd if=/dev/urandom of=/mnt/other bs=64k count=100 2> /dev/null && rm /mnt/big && sync",
    );
    assert!(back_up(folder).contains("incremental of \"nightly\""));
    guest.hear();
    let manifest = guest.run(&format!("cd /mnt && {MANIFEST}; cd / && umount /mnt"));
    served.kill();
    assert!(back_up(folder).contains("incremental of \"nightly\""));
    let served = serve(folder);
    guest.run(
        "mount -t ext4 -o ro /dev/vda /mnt && cmp /m/virtio_blk.ko /mnt/second/m/virtio_blk.ko",
    );
    guest.power_off();
    assert!(served.stop().0.success());
    assert_restored(folder, &manifest);
}

/// The client of the kernel is how programs that know no NBD get at an image, and monitors of virtual machines
/// too. What it wrote is in the next increment.
#[test]
fn the_client_of_the_kernel_attaches_an_image() {
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    assert!(back_up(folder).contains("full of \"nightly\""));
    let mut serve = qbm();
    serve.current_dir(folder).args(["serve", "--socket", "qbm.sock", "--port", "0", "vm.qbm"]);
    let served = Served::spawn(&mut serve, 2);
    let port = served.uris()[1].trim_end_matches('/').rsplit(':').next().unwrap();
    let mut guest = Machine::boot(folder, "qbm.sock");
    guest.load(&NETWORK);
    guest.run("ifconfig eth0 10.0.2.15");
    guest.run(&format!("/host/nbd-client 10.0.2.2 {port} /dev/nbd0"));
    guest.run("/host/mke2fs -q -t ext4 /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt");
    guest.run("cp -a /host /m /mnt/ && fstrim /mnt && sync");
    let manifest = guest.run(&format!("cd /mnt && {MANIFEST}; cd / && umount /mnt"));
    guest.run("/host/nbd-client -d /dev/nbd0");
    guest.power_off();
    assert!(served.stop().0.success());
    assert!(back_up(folder).contains("incremental of \"nightly\""));
    assert_restored(folder, &manifest);
}

/// The last point restores to the disk, a sound ext4 whose files have the sums of `manifest`.
fn assert_restored(folder: &Path, manifest: &str) {
    assert!(manifest.lines().count() > 10, "{manifest}");
    run(qbm().current_dir(folder).args(["restore", "points", "restored.raw"])).success();
    run(tool("cmp").current_dir(folder).args(["restored.raw", "vm.raw"])).success();
    let system = |program: &str| {
        let mut command = tool(program);
        command.current_dir(folder).env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    run(system("e2fsck").args(["-f", "-n", "restored.raw"])).success();
    fs::create_dir(folder.join("tree")).unwrap();
    run(system("debugfs").args(["-R", "rdump / tree", "restored.raw"])).success();
    let restored = run(system("sh").args(["-c", &format!("cd tree && {MANIFEST}")])).success();
    assert_eq!(restored.stdout, manifest);
}
