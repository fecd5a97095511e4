//! The time, fresh ids and this process, from the kernel.

use std::time::{SystemTime, UNIX_EPOCH};

use qbm_core::host::Opener;
use qbm_core::{Host, Id, Timestamp};
use uuid::Uuid;

/// The real world.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdHost;

impl Host for StdHost {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is nobody's intention, and nothing is ordered by the time.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn fresh_id(&self) -> Id {
        Id(Uuid::new_v4().as_u128())
    }

    fn opener(&self) -> Opener {
        Opener {
            pid: std::process::id(),
            program: line("/proc/self/comm"),
            boot: line("/proc/sys/kernel/random/boot_id"),
        }
    }
}

/// The one line of a file of the kernel, or nothing where `/proc` is not mounted: it serves only
/// to tell people who has an image open.
fn line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert_ne!(StdHost.fresh_id(), StdHost.fresh_id());
    }

    #[test]
    fn the_opener_is_this_process() {
        let opener = StdHost.opener();
        assert_eq!(opener.pid, std::process::id());
        assert!(!opener.program.is_empty() && !opener.program.contains('\n'));
        assert_eq!(opener.boot.len(), 36);
    }

    #[test]
    fn the_time_is_that_of_files() {
        let file = tempfile::tempfile().unwrap();
        let now = StdHost.now().0 / 1000;
        let modified = file.metadata().unwrap().modified().unwrap();
        let modified = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(modified) <= 60, "{now} and {modified}");
    }
}
