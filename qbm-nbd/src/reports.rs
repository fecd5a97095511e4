//! What the operator is told while the server works: that a disk fails.

use crate::disk::Fault;
use crate::limits::MAX_REPORTS;
use crate::statistics::Statistics;

/// Where reports go, a line each.
pub(crate) struct Reports(pub(crate) Box<dyn Fn(&str) + Send + Sync>);

impl Reports {
    /// Counts `fault`, and tells it if it is the operator's business and was not told too often.
    pub(crate) fn note(&self, statistics: &Statistics, export: &str, fault: &Fault) {
        let Some(detail) = &fault.detail else {
            statistics.bad_requests.add(1);
            return;
        };
        let before = statistics.disk_failures.add(1);
        if before < MAX_REPORTS {
            (self.0)(&format!("export '{export}': {detail}"));
        }
    }
}
