//! The little that a guest boots: Debian's kernel, busybox, and two programs of this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use iotests::{run, tool};

/// What the kernel needs to see the disk, in the order in which it can be loaded.
const MODULES: [&str; 6] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
];

/// What it needs to attach a disk of a server by itself, loaded where that is wanted; see
/// [`Machine::load`](super::machine::Machine::load).
pub(crate) const NETWORK: [&str; 4] = ["failover", "net_failover", "virtio_net", "nbd"];

/// What is in its folder `/host`.
const PROGRAMS: [&str; 2] = ["mke2fs", "nbd-client"];

/// Where `cargo xtask test` has unpacked the packages.
fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/guest/root")
}

/// The kernel.
pub(crate) fn kernel() -> PathBuf {
    let boot = fs::read_dir(packages().join("boot"));
    let boot = boot.expect("`cargo xtask test` puts a kernel into target/guest");
    let names = boot.map(|entry| entry.unwrap().path());
    let kernel =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("vmlinuz");
    names.into_iter().find(kernel).expect("the package has a kernel")
}

/// Makes the first file system of the guest, in `folder`.
pub(crate) fn make(folder: &Path) -> PathBuf {
    let root = folder.join("initramfs");
    for name in ["bin", "dev", "proc", "mnt", "m", "host"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let busybox = packages().join("bin/busybox");
    fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    for module in MODULES.iter().chain(&NETWORK) {
        let name = format!("{module}.ko");
        let found = run(tool("find").arg(packages().join("lib/modules")).args(["-name", &name]));
        fs::copy(found.success().stdout.trim(), root.join("m").join(name)).unwrap();
    }
    PROGRAMS.iter().for_each(|program| copy_program(program, &root));
    let modules = MODULES.map(|module| format!("insmod /m/{module}.ko\n")).concat();
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin\n\
         mount -t devtmpfs dev /dev\n\
         mount -t proc proc /proc\n\
         {modules}\
         stty -echo -onlcr < /dev/ttyS0\n\
         exec sh < /dev/ttyS0 > /dev/ttyS0 2>&1\n"
    );
    fs::write(root.join("init"), init).unwrap();
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
    let archive = folder.join("initrd");
    let pack = format!("find . | {} cpio -o -H newc > {}", busybox.display(), archive.display());
    run(tool("sh").current_dir(root).args(["-c", &pack])).success();
    archive
}

/// Copies a program of this machine, with its libraries, into the file system at `root`.
fn copy_program(program: &str, root: &Path) {
    let which = format!("command -v {program}");
    let found =
        run(tool("sh").env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").args(["-c", &which])).success();
    let found = found.stdout.trim();
    fs::copy(found, root.join("host").join(program)).unwrap();
    let libraries = run(tool("ldd").arg(found)).success().stdout;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(&library[1..]);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(library, place).unwrap();
    }
}
