//! What would be lost with the server: writes that are under way, or done and not flushed.

/// The writes of a disk.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// How many have begun.
    begun: u64,
    /// How many of these have not ended.
    under_way: u64,
    /// The first ones are flushed: this many.
    flushed: u64,
}

impl Ledger {
    /// Whether anything would be lost.
    pub(super) fn at_stake(&self) -> bool {
        self.begun > self.flushed
    }

    pub(super) fn begin_write(&mut self) {
        self.begun += 1;
        self.under_way += 1;
    }

    pub(super) fn end_write(&mut self) {
        self.under_way -= 1;
    }

    /// What a flush that begins now will have covered once it has succeeded: `None` if writes are
    /// under way, of which nobody can tell.
    pub(super) fn begin_flush(&self) -> Option<u64> {
        (self.under_way == 0).then_some(self.begun)
    }

    pub(super) fn end_flush(&mut self, covered: Option<u64>) {
        self.flushed = self.flushed.max(covered.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_covers_what_was_done_when_it_began() {
        let mut ledger = Ledger::default();
        assert!(!ledger.at_stake());
        ledger.begin_write();
        let early = ledger.begin_flush();
        ledger.end_write();
        ledger.end_flush(early);
        assert!(ledger.at_stake(), "the write was under way when the flush began");
        let flush = ledger.begin_flush();
        ledger.begin_write();
        ledger.end_write();
        ledger.end_flush(flush);
        assert!(ledger.at_stake(), "the second write came after the flush");
        let flush = ledger.begin_flush();
        ledger.end_flush(flush);
        assert!(!ledger.at_stake());
    }
}
