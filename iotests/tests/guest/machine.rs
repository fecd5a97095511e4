//! A virtual machine, whose console is a shell that this test talks to.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use iotests::tool;
use rustix::process::{Pid, Signal, kill_process};

use super::initramfs;

/// No step takes that long, unless the guest hangs: then the machine is gone, and the test fails.
const SECONDS: &str = "600";

/// A running machine.
pub(crate) struct Machine {
    process: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
}

impl Machine {
    /// Boots with the disk on the Unix socket `socket` in `folder`; returns once there is a shell.
    ///
    /// By emulation alone: some machines have a `/dev/kvm` under which kernels hang.
    pub(crate) fn boot(folder: &Path, socket: &str) -> Self {
        let disk = format!(
            "driver=nbd,node-name=vm,server.type=unix,server.path={socket},reconnect-delay=300,\
             cache.direct=on"
        );
        let mut command = tool("timeout");
        command.current_dir(folder).args([SECONDS, "qemu-system-x86_64", "-accel", "tcg"]);
        command.args(["-m", "192", "-nodefaults", "-no-reboot", "-display", "none"]);
        command.args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1"]);
        command.arg("-kernel").arg(initramfs::kernel());
        command.arg("-initrd").arg(initramfs::make(folder));
        command.args(["-blockdev", &disk, "-device", "virtio-blk-pci,drive=vm"]);
        // Of its network it sees this machine alone, at 10.0.2.2.
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keyboard = process.stdin.take().unwrap();
        let screen = process.stdout.take().unwrap();
        let mut machine = Self { process, keyboard, screen };
        // Its first prompt.
        machine.read_until("# ");
        machine.run("PS1=");
        machine
    }

    /// Runs `command`, which has to succeed; what it prints.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.say(command);
        self.hear()
    }

    /// Lets it begin with `command`.
    pub(crate) fn say(&mut self, command: &str) {
        // In parts, so that an echo of it is not taken for the end.
        writeln!(self.keyboard, "{command}; echo \"<$?\"'>'").unwrap();
    }

    /// Waits until the last command has ended, which has to have succeeded; what it printed.
    pub(crate) fn hear(&mut self) -> String {
        let said = self.read_until(">\n");
        let (said, status) = said.rsplit_once('<').unwrap();
        assert_eq!(status, "0>\n", "{said}");
        said.to_owned()
    }

    /// Has it load kernel modules.
    pub(crate) fn load(&mut self, modules: &[&str]) {
        modules.iter().for_each(|module| drop(self.run(&format!("insmod /m/{module}.ko"))));
    }

    /// Ends it, without a word to the disk.
    pub(crate) fn power_off(mut self) {
        self.keyboard.write_all(b"poweroff -f\n").unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    fn read_until(&mut self, end: &str) -> String {
        let mut said = Vec::new();
        while !said.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let read = self.screen.read_exact(&mut byte);
            assert!(read.is_ok(), "the machine is gone: {}", String::from_utf8_lossy(&said));
            said.extend(byte);
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // `timeout` passes it on. The machine may have ended already.
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let _killed = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _status = self.process.wait();
    }
}
