//! A progress bar on a terminal, and nothing in a pipe.

use indicatif::{ProgressBar, ProgressStyle};
use qbm_core::backup::Progress;

/// Shows how far a long operation has come, on standard error.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar for what `what` says.
    pub fn new(what: &str) -> Self {
        // Draws nothing where standard error is not a terminal.
        let bar = ProgressBar::new(0);
        let style = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a constant template"));
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// Shows `progress`.
    pub fn show(&mut self, progress: Progress) {
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
