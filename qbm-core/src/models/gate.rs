//! The gate: a write marks what records, or the switch waits for it.

use std::sync::Arc;

use super::explore::{Model, block_on, join, poll_and_drop, spawn};
use super::file::File;
use super::tracking::segment;
use crate::mutants::Mutant;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::track::gate::{Gate, Ticket};
use crate::track::segment::Segment;
use crate::{Buffer, Persist, Storage};

/// The data of a write that does not mark the successor.
const OLD: u8 = 1;
/// The data of one that does.
const NEW: u8 = 2;

/// A gate whose recording set grows from the old segment to both.
struct Switching {
    gate: Gate<File>,
    data: File,
    old: Arc<Segment<File>>,
    successor: Arc<Segment<File>>,
    /// Whether the switch is over.
    over: Mutex<bool>,
    /// Set under a ticket, in an order with nothing else.
    written: AtomicBool,
}

impl Switching {
    fn new(data: File) -> Arc<Self> {
        let (old, successor) = (segment(1), segment(1));
        let gate = Gate::new(vec![Arc::clone(&old)]);
        Arc::new(Self {
            gate,
            data,
            old,
            successor,
            over: Mutex::new(false),
            written: AtomicBool::new(false),
        })
    }

    /// Switches; says whether a write is seen then.
    async fn switch(&self) -> bool {
        let both = vec![Arc::clone(&self.old), Arc::clone(&self.successor)];
        self.gate.switch(both, &self.data).await;
        let written = self.written.load(Ordering::Relaxed);
        *self.over.lock().expect("a thread that fails ends the model") = true;
        let under_way = self.data.under_way();
        assert!(!under_way.contains(&vec![OLD]), "the medium is at a write of before the switch");
        written
    }

    /// A write to the data, with marks that count as durable; says which.
    async fn write(&self) -> u8 {
        let ticket = self.enter().await;
        self.assert_in_time(&ticket);
        self.written.store(true, Ordering::Relaxed);
        let byte = if self.marks_successor(&ticket) { NEW } else { OLD };
        let buffer = Buffer::from_slice(&[byte]);
        self.data.write_at(0, buffer, Persist::Later).await.expect("the medium is sound");
        self.assert_in_time(&ticket);
        ticket.leave();
        byte
    }

    async fn enter(&self) -> Ticket<'_, File> {
        #[cfg(qbm_mutants)]
        if crate::mutants::planted(Mutant::RecordingBeforeTicket) {
            return self.gate.enter_late().await;
        }
        self.gate.enter()
    }

    /// Asserts that a write which does not mark the successor comes before the switch is over.
    fn assert_in_time(&self, ticket: &Ticket<'_, File>) {
        let over = *self.over.lock().expect("a thread that fails ends the model");
        assert!(
            self.marks_successor(ticket) || !over,
            "after the switch a write marks only the old segment"
        );
    }

    fn marks_successor(&self, ticket: &Ticket<'_, File>) -> bool {
        ticket.duties().recording.iter().any(|segment| Arc::ptr_eq(segment, &self.successor))
    }
}

#[test]
fn a_write_marks_the_successor_or_the_switch_waits_for_it() {
    let planted = &[Mutant::RecordingBeforeTicket, Mutant::NoDrain, Mutant::EndRelaxed];
    Model { preemptions: None, floor: 250, planted }.explore(|| {
        let shared = Switching::new(File::new(&[0]));
        let writer = Arc::clone(&shared);
        let writer = spawn(move || block_on(writer.write()));
        let seen = block_on(shared.switch());
        let [byte] = join([writer]);
        assert!(seen || byte == NEW, "the switch does not see what came before it");
    });
}

#[test]
fn a_drain_ends_however_many_writes_come() {
    let planted = &[Mutant::NoDrain, Mutant::LostWakeUp];
    Model { preemptions: Some(3), floor: 5_500, planted }.explore(|| {
        let shared = Switching::new(File::new(&[0]));
        let writers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            spawn(move || block_on(shared.write()))
        });
        block_on(shared.switch());
        join(writers);
    });
}

#[test]
fn a_switch_waits_for_the_medium_of_a_write_that_was_dropped() {
    let planted = &[Mutant::TicketOnDrop];
    Model { preemptions: Some(2), floor: 6_500, planted }.explore_each(1..3, |polls| {
        let shared = Switching::new(File::by_device(&[0]));
        let (writer, device) = (Arc::clone(&shared), shared.data.clone());
        let writer = spawn(move || poll_and_drop(writer.write(), polls));
        let device = spawn(move || block_on(device.serve()));
        block_on(shared.switch());
        join([writer]);
        shared.data.retire();
        join([device]);
    });
}
