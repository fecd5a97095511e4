//! `--aio=io_uring`: the kernel's rings are used where there are any.

use std::fs;
use std::path::Path;
use std::process::Command;

use iotests::{Served, folder_with_image, qbm, tool};

use super::{MIB, qemu_io};

/// Runs a program to which `io_uring_setup`, which is number 425 everywhere, is forbidden: by a filter
/// as a container has it.
const WITHOUT_RINGS: &str = r#"
import ctypes, os, struct, sys
load, equal, answer = 0x20, 0x15, 0x06
code = [(load, 0, 0, 0), (equal, 0, 1, 425), (answer, 0, 0, 0x50001), (answer, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
program = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
no_new_privs, seccomp = 38, 22
assert libc.prctl(no_new_privs, 1, 0, 0, 0) == 0 and libc.prctl(seccomp, 2, program, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"#;

/// Serves the image in `folder`, run by `command`, writes to it, and looks whether there is a ring.
/// What the server complained about.
fn serve(folder: &Path, command: &mut Command, has_ring: bool) -> String {
    let arguments =
        ["serve", "--aio=io_uring", "--socket", "qbm.sock", "--pid-file", "pid", "vm.qbm"];
    let served = Served::spawn(command.current_dir(folder).args(arguments), 1);
    qemu_io(folder, served.uri(), &["write -P 7 0 64k", "write -P 8 100 50", "read -P 7 4k 60k"]);
    let pid = fs::read_to_string(folder.join("pid")).unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", pid.trim())).unwrap();
    let is_ring = |link: &Path| link == Path::new("anon_inode:[io_uring]");
    let mut links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert_eq!(links.any(|link| is_ring(&link)), has_ring);
    let (status, complaints) = served.stop();
    assert!(status.success(), "{status} {complaints}");
    let disk = fs::read(folder.join("vm.raw")).unwrap();
    assert!(disk[100..150] == [8; 50] && disk[150..64 << 10].iter().all(|byte| *byte == 7));
    complaints
}

#[test]
fn rings_are_used_and_where_they_are_forbidden_it_says_so_and_goes_on() {
    let folder = folder_with_image(MIB);
    assert_eq!(serve(folder.path(), &mut qbm(), true), "");

    let folder = folder_with_image(MIB);
    let mut python = tool("python3");
    let complaints =
        serve(folder.path(), python.args(["-c", WITHOUT_RINGS]).arg(qbm().get_program()), false);
    let expected = "qbm: warning: io_uring cannot be used: it is forbidden here, by the sysctl \
        kernel.io_uring_disabled or by a container's seccomp filter; it goes on as with --aio=threads\n";
    assert_eq!(complaints, expected);
}
