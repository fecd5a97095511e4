//! The lock of an image behind an open one: what is to be written to must be ours alone, and where the
//! disk moves there, its lock goes along.
//!
//! There is no instant in which another program could begin to write to a layer.

use super::Image;
use crate::descriptor::ImageRef;
use crate::disk::Disk;
use crate::{Directory, Error, Lock, Result, Storage};

impl<D: Directory> Image<D> {
    /// The image at `depth`, from 0 at the top, as a descriptor beside that of the top would name it.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    pub fn layer_image(&self, depth: usize) -> &ImageRef {
        &self.chain.layer(depth).image
    }

    /// Locks the layer at `depth` for writing: whoever opens it [besides](super::OpenOptions::locked)
    /// may then write to it.
    ///
    /// # Errors
    ///
    /// An error of the storage, such as that somebody else uses it. It is then locked as before.
    pub async fn lock_layer(&self, depth: usize) -> Result<()> {
        self.set_lock(depth, Lock::Write).await
    }

    /// Locks the layer at `depth` for reading again, as all layers are.
    ///
    /// # Errors
    ///
    /// An error of the storage.
    pub async fn unlock_layer(&self, depth: usize) -> Result<()> {
        self.set_lock(depth, Lock::Read).await
    }

    /// Passes the lock of the layer at `depth`, which is for writing, to `disk`, which is that layer:
    /// it stays locked when this image is closed.
    ///
    /// # Errors
    ///
    /// An error of the storage, such as that another program has begun to read it just now. The layer
    /// is then locked for reading.
    pub async fn pass_lock<B: Directory>(&self, depth: usize, disk: Disk<'_, B>) -> Result<()> {
        // Both for reading, which excludes writers, before one of them lets go.
        self.set_lock(depth, Lock::Read).await?;
        disk.lock(Lock::Read).await?;
        self.set_lock(depth, Lock::None).await?;
        let passed = disk.lock(Lock::Write).await;
        if passed.is_err() {
            self.set_lock(depth, Lock::Read).await?;
        }
        passed
    }

    async fn set_lock(&self, depth: usize, lock: Lock) -> Result<()> {
        let layer = self.chain.layer(depth);
        layer.data.lock(lock).await.map_err(Error::io(&layer.name, "lock"))
    }
}
