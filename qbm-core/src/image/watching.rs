//! What a job needs that follows an image in use: which granules are written to, round by round,
//! and a moment in which none is.

use std::sync::Arc;

use super::Image;
use super::bitmaps::Control;
use super::switch::recording_now;
use crate::job::Group;
use crate::mutants::{self, Mutant};
use crate::track::hold::{Hold, Released};
use crate::track::watch::{Lead, Watch};
use crate::{Directory, Granularity};

/// The right to be told of writes to an image. Writes go on as ever once it is dropped.
#[derive(Debug)]
pub(crate) struct Watching<'a, D: Directory> {
    image: &'a Image<D>,
    granularity: Granularity,
    lead: Arc<Lead>,
    /// The watch of this round.
    current: Arc<Watch>,
    hold: Arc<Hold>,
}

/// The writes of a round that is over. Those who wait until it is copied go on when it is dropped.
#[derive(Debug)]
pub(crate) struct Round(Arc<Watch>);

impl<D: Directory> Image<D> {
    /// Watches the image for a job of `group`, whose first round begins before this returns: what is
    /// told is of all writes that are not over by then. With `blocking`, no write returns before the
    /// job has [dropped](Round) the round that it belongs to.
    pub(crate) async fn watch(
        &self,
        granularity: Granularity,
        group: &Arc<Group>,
        blocking: bool,
    ) -> Watching<'_, D> {
        let lead = Lead::new(group, blocking);
        let mut control = self.control.lock().await;
        // Of no other size than the disk has: a resize is over by now, and none begins any more.
        let current = Watch::new(granularity, self.size(), &lead);
        let watching = Watching { image: self, granularity, lead, current, hold: Arc::default() };
        control.watches.push(Arc::clone(&watching.current));
        self.switch_duties(&mut control).await;
        drop(control);
        watching
    }

    /// Puts in force what `control` has, and waits for all writes that had other duties.
    async fn switch_duties(&self, control: &mut Control<D::File>) {
        control.forget_ended();
        let duties = control.duties(recording_now(control));
        if mutants::planted(Mutant::RoundUndrained) {
            return self.gate.replace(duties);
        }
        self.gate.switch(duties, self.data()).await;
    }
}

impl<D: Directory> Watching<'_, D> {
    /// The watch of this round.
    pub(crate) fn current(&self) -> &Watch {
        &self.current
    }

    /// Whether writes wait until the job has copied them.
    pub(crate) fn lead(&self) -> &Lead {
        &self.lead
    }

    /// Begins the next round, and returns the one before: all of its writes are over, and what is
    /// read from now on has them.
    pub(crate) async fn turn(&mut self) -> Round {
        self.turn_with(None).await
    }

    /// The same, and no write is under way until this [ends](Self::end) or is dropped.
    pub(crate) async fn hold(&mut self) -> Round {
        let hold = Arc::clone(&self.hold);
        self.turn_with(Some(hold)).await
    }

    async fn turn_with(&mut self, hold: Option<Arc<Hold>>) -> Round {
        let next = Watch::new(self.granularity, self.image.size(), &self.lead);
        let mut control = self.image.control.lock().await;
        let old = Round(std::mem::replace(&mut self.current, next));
        control.watches.retain(|watch| !Arc::ptr_eq(watch, &old.0));
        control.watches.push(Arc::clone(&self.current));
        control.holds.extend(hold);
        if mutants::planted(Mutant::OverEarly) {
            old.0.end();
        }
        self.image.switch_duties(&mut control).await;
        old
    }

    /// Ends it, and with it the hold: writes go on here, or are told to be made elsewhere.
    pub(crate) async fn end(self, how: Released) {
        self.hold.release(how);
        self.current.end();
        let image = self.image;
        let mut control = image.control.lock().await;
        control.forget_ended();
        image.gate.replace(control.duties(recording_now(&control)));
    }
}

impl<D: Directory> Drop for Watching<'_, D> {
    fn drop(&mut self) {
        self.hold.release(Released::Here);
        self.current.end();
        // Those too that wait for a round whose end was dropped half-way.
        self.lead.set_blocking(false);
    }
}

impl Round {
    /// The granules written to.
    pub(crate) fn written(&self) -> &crate::bits::Bits {
        self.0.written()
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.0.end();
    }
}
