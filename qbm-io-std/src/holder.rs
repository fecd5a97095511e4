//! Who holds a lock, for the text of a refusal.
//!
//! `/proc` shows the locks of every open file of the processes that this user may look into.
//! What cannot be found out is left out.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

/// Who holds a lock, as far as it was found.
pub(crate) fn describe(holder: Option<u32>) -> String {
    match holder {
        Some(pid) => format!("in use by {}", process(pid)),
        None => "in use by another process".to_owned(),
    }
}

/// The process with the lowest number that holds `byte` of `file` by another handle than this one.
pub(crate) fn find(file: &File, byte: u8) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let which = (metadata.dev(), metadata.ino());
    let own = (std::process::id(), file.as_raw_fd().to_string());
    let mut pids: Vec<u32> = names(Path::new("/proc")).filter_map(|n| n.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().find(|pid| {
        let folder = format!("/proc/{pid}");
        names(&Path::new(&folder).join("fdinfo")).any(|fd| {
            // The locks first: looking at the file itself may block, if a server that is gone
            // keeps it.
            (*pid, &fd) != (own.0, &own.1)
                && fs::read_to_string(format!("{folder}/fdinfo/{fd}"))
                    .is_ok_and(|info| info.lines().any(|line| locks(line, byte)))
                && fs::metadata(format!("{folder}/fd/{fd}"))
                    .is_ok_and(|other| (other.dev(), other.ino()) == which)
        })
    })
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether a line of a `fdinfo` file says that `byte` is locked, such as
/// `lock: 1: OFDLCK ADVISORY READ -1 08:01:4711 100 101`: the last two are the first and the
/// last byte, or `EOF`.
fn locks(line: &str, byte: u8) -> bool {
    let Some(words) = line.strip_prefix("lock:") else { return false };
    let mut words = words.split_whitespace().rev();
    let (last, first) = (words.next(), words.next());
    let first = first.and_then(|first| first.parse::<u64>().ok());
    let last = last.map(|last| last.parse::<u64>().unwrap_or(u64::MAX));
    let byte = u64::from(byte);
    first.is_some_and(|first| first <= byte) && last.is_some_and(|last| byte <= last)
}

/// The process `pid`: its number, program and start.
fn process(pid: u32) -> String {
    let mut text = format!("process {pid}");
    if let Ok(program) = fs::read_to_string(format!("/proc/{pid}/comm")) {
        // A process chooses its name freely, so nothing of it may reach a terminal as it is.
        text += &format!(" ({})", program.trim_end().escape_debug());
    }
    if let Some(start) = start_of(pid) {
        text += &format!(", running since {start}");
    }
    text
}

/// When `pid` started, to the second.
fn start_of(pid: u32) -> Option<Timestamp> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, also brackets; field 22 is the 20th after it.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let seconds = ticks / rustix::param::clock_ticks_per_second();
    let start = boot.trim().parse::<i64>().ok()?.checked_add_unsigned(seconds)?;
    Timestamp::from_second(start).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_understood() {
        let line = "lock:\t1: OFDLCK  ADVISORY  READ -1 08:01:4711 100 101";
        assert!(locks(line, 100) && locks(line, 101));
        assert!(!locks(line, 99) && !locks(line, 102));
        assert!(locks("lock:\t1: POSIX  ADVISORY  WRITE 7 08:01:4711 0 EOF", 201));
        assert!(!locks("flags:\t0100002 0 255", 100));
        assert!(!locks("lock:", 100));
    }

    #[test]
    fn this_process_has_a_name_and_a_start() {
        let text = process(std::process::id());
        let start = start_of(std::process::id()).unwrap();
        assert!(text.starts_with(&format!("process {} (", std::process::id())), "{text}");
        assert!(text.ends_with(&format!("), running since {start}")), "{text}");
        assert!(Timestamp::now().duration_since(start).as_secs() >= -1);
    }
}
