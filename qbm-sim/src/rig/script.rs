//! A case whose steps are given, not drawn: what the fuzzer runs.
//!
//! Operations come one after the other, and each is over before the next begins, so that a case takes
//! no time to speak of; what happens at once and in between is for the drawn cases. Errors are
//! injected into calls by their number.

use std::cell::RefCell;
use std::sync::Arc;

use fastrand::Rng;
use qbm_core::{Host, Image};

use super::model::Model;
use super::workload::{Site, perform};
use super::{Count, DATA, Media, Operation, Subject, check, now, open};
use crate::{Disk, Fault, Loss, SimDirectory, SimHost};

/// What happens next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Something is done to the image, if it is open.
    Do(Operation),
    /// A call to the disk of the image is going to fail.
    Fail(Fault),
    /// A call to the disk of the backups is going to fail.
    FailTarget(Fault),
    /// No call is going to fail that has not failed yet.
    Calm,
    /// The power is cut in a copy, and what is left of it checked.
    PowerLoss(Loss),
    /// The process is killed, and another one opens the image.
    Kill,
    /// The process is killed, and a call of the next one is going to fail.
    KillAndFail(Fault),
    /// The image is closed and opened again.
    Reopen,
}

/// Runs `steps` on an image with a backup, closes it if the seed is even, cuts the power, and checks
/// that it recovers to what was promised. All chance follows `seed`.
///
/// # Panics
///
/// If a promise is broken; the message says which.
pub fn run_script(steps: impl IntoIterator<Item = Step>, seed: u64) -> Count {
    let mut count = Count { cases: 1, ..Count::default() };
    let subject = Subject::of_case(seed / 2);
    let mut life = Life::begin(subject.begun(), None, Rng::with_seed(seed));
    let model = RefCell::new(Model::new(subject));
    for step in steps {
        life.step(step, &model, &mut count);
    }
    if seed.is_multiple_of(2) {
        life.close(&model);
    }
    life.check(Loss::Everything, &model, &mut count);
    life.end(&mut count);
    count
}

/// A process, and the disks that it works on.
struct Life {
    source: Disk,
    target: Disk,
    host: Arc<dyn Host>,
    /// `None`: an error that was injected kept it from being opened or closed.
    image: Option<Image<SimDirectory>>,
    rng: Rng,
}

impl Life {
    fn begin(media: &Media, fault: Option<Fault>, mut rng: Rng) -> Self {
        let source = Disk::immediate(media.source.clone(), rng.u64(..));
        let target = Disk::immediate(media.target.clone(), rng.u64(..));
        let host: Arc<dyn Host> = Arc::new(SimHost::new(rng.u64(..)));
        fault.into_iter().for_each(|fault| source.inject(fault));
        let image = now(open(&source, &host)).ok();
        assert!(image.is_some() || fault.is_some(), "P4: open: no error was injected yet");
        Self { source, target, host, image, rng }
    }

    fn step(&mut self, step: Step, model: &RefCell<Model>, count: &mut Count) {
        match step {
            Step::Do(operation) => {
                let Some(image) = &self.image else { return };
                let (disk, target, host) = (&self.source, &self.target, &self.host);
                now(perform(Site { image, disk, target, host, model }, operation));
            }
            Step::Fail(fault) => self.source.inject(fault),
            Step::FailTarget(fault) => self.target.inject(fault),
            Step::Calm => [&self.source, &self.target].into_iter().for_each(Disk::calm),
            Step::PowerLoss(loss) => self.check(loss, model, count),
            Step::Kill => self.kill(None, model, count),
            Step::KillAndFail(fault) => self.kill(Some(fault), model, count),
            Step::Reopen => {
                self.close(model);
                self.image = now(open(&self.source, &self.host)).ok();
            }
        }
    }

    /// What the process leaves is in the page cache; the errors to come were those of its calls.
    fn kill(&mut self, fault: Option<Fault>, model: &RefCell<Model>, count: &mut Count) {
        self.end(count);
        let source = self.source.kill(&mut self.rng);
        let target = self.target.kill(&mut self.rng);
        model.borrow_mut().process_died(source.has_lost(DATA));
        *self = Self::begin(&Media { source, target }, fault, self.rng.fork());
    }

    fn end(&self, count: &mut Count) {
        count.errors += self.source.injected().errors + self.target.injected().errors;
    }

    /// Recovers what a power loss leaves, and holds it against the model.
    fn check(&mut self, loss: Loss, model: &RefCell<Model>, count: &mut Count) {
        let media = Media::of(&self.source, &self.target);
        let media = media.power_loss((loss, loss), &mut self.rng, count);
        check::recovered(&media, &model.borrow(), self.rng.u64(..), count);
    }

    fn close(&mut self, model: &RefCell<Model>) {
        if let Some(image) = self.image.take() {
            let begun = model.borrow_mut().begin_flush();
            // It may fail by an error that was injected: then it is as if the process had died.
            if now(image.close()).is_ok() {
                model.borrow_mut().end_flush(begun);
            }
            model.borrow_mut().process_died(self.source.snapshot().has_lost(DATA));
        }
    }
}
