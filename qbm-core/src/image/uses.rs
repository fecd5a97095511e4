//! One file stands for one thing in an image and in what is behind it.
//!
//! The descriptor refuses a name that stands twice. Two names of one file are found here, by what
//! the files are: whatever was written to one of two bitmaps would be in both.

use std::collections::BTreeSet;

use crate::{Error, Identity, Result, Storage};

/// The files that have been opened so far.
#[derive(Debug, Default)]
pub(super) struct Uses(BTreeSet<(u64, u64)>);

impl Uses {
    /// Notes that `file` is in use, by the name `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it has been noted before.
    pub(super) async fn note<F: Storage>(&mut self, name: &str, file: &F) -> Result<()> {
        let identity = file.identity().await.map_err(Error::io(name, "stat"))?;
        let Some(Identity { device, inode, .. }) = identity else { return Ok(()) };
        if self.0.insert((device, inode)) {
            return Ok(());
        }
        Err(Error::unusable(name, "it stands for two things in this image, or behind it"))
    }
}
