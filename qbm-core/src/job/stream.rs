//! Stream: what shows through an image in use comes up into it, until it needs nothing behind it.
//!
//! Guests may write meanwhile: a cluster that they have written is the image's own, and whoever pulls
//! one takes turns with them ([`Image::pull`]).
//!
//! # What a crash leaves
//!
//! The same disk: its clusters are durable before the one replace of the descriptor after which what
//! was behind it is so no longer.

use super::control::JobControl;
use super::steps::{Side, Steps, Then};
use crate::copy::Progress;
use crate::graph::{Onto, pull_differences};
use crate::{ByteRange, Directory, Error, Image, Result};

/// Puts `onto` behind `top`, or nothing, while guests use it: what shows through and differs from that is
/// pulled into it first.
///
/// The caller begins the job by calling this, and [concludes](JobControl::conclude) it.
///
/// # Errors
///
/// [`Error::Unusable`] if `top` is no overlay, [`Error::Cancelled`], or an error of the storage, also
/// one that was to be ignored: what is behind it is then what it was.
pub async fn stream<D: Directory, B: Directory>(
    top: &Image<D>,
    onto: Option<Onto<'_, B>>,
    control: &JobControl,
) -> Result<()> {
    control.begin();
    let mut steps = StreamSteps { control, ignored: None };
    let disk = onto.as_ref().map(|onto| onto.disk);
    pull_differences(top, disk, &mut steps).await?;
    steps.settle().await?;
    top.put_over(onto.map(|onto| onto.backing)).await
}

/// What a stream does between its steps.
struct StreamSteps<'a> {
    control: &'a JobControl,
    /// The first error that was ignored.
    ignored: Option<Error>,
}

impl Steps for StreamSteps<'_> {
    async fn step(&mut self, at: Progress, moved: u64) -> Result<()> {
        self.control.set_progress(at);
        self.control.checkpoint(moved).await
    }

    async fn trouble(&mut self, side: Side, error: Error, _range: ByteRange) -> Result<Then> {
        match self.control.trouble(side, &error).await? {
            Some(Then::Skip) => {
                self.ignored.get_or_insert(error);
                Ok(Then::Skip)
            }
            then => then.ok_or(error),
        }
    }

    async fn settle(&mut self) -> Result<()> {
        match self.ignored.take() {
            // What is behind it is still needed there.
            Some(error) => Err(error),
            None => self.control.settle().await,
        }
    }
}
