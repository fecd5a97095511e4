//! The names of the simulated disk, as a directory.

use std::io;

use async_trait::async_trait;
use qbm_core::{Access, Directory};

use crate::fault::Kind;
use crate::file::SimFile;
use crate::medium::{File, FileId, NameChange};
use crate::world::{Disk, Effect, World};

/// The one directory of a [`Disk`].
#[derive(Clone, Debug)]
pub struct SimDirectory {
    disk: Disk,
}

impl SimDirectory {
    /// The directory of `disk`.
    pub fn new(disk: &Disk) -> Self {
        Self { disk: disk.clone() }
    }

    async fn rename_or_remove(
        &self,
        kind: Kind,
        change: impl FnOnce(&mut World) -> io::Result<NameChange> + Send,
    ) -> io::Result<()> {
        self.disk.operate(kind, None, |world| change(world).map(Effect::Name)).await
    }
}

fn find(world: &World, name: &str) -> io::Result<FileId> {
    world.medium.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[async_trait]
impl Directory for SimDirectory {
    type File = SimFile;

    async fn open(&self, name: &str, _access: Access) -> io::Result<SimFile> {
        let mut id = 0;
        self.disk
            .operate(Kind::Open, None, |world| {
                id = find(world, name)?;
                Ok(Effect::None)
            })
            .await?;
        Ok(SimFile::new(self.disk.clone(), id))
    }

    async fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut id = 0;
        self.disk
            .operate(Kind::Create, None, |world| {
                if world.medium.names.contains_key(name) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                id = world.medium.files.len();
                world.medium.files.push(File::default());
                Ok(Effect::Name(NameChange::Link(name.to_owned(), id)))
            })
            .await?;
        Ok(SimFile::new(self.disk.clone(), id))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_or_remove(Kind::Rename, |world| {
            let id = find(world, from)?;
            Ok(NameChange::Rename(from.to_owned(), to.to_owned(), id))
        })
        .await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.rename_or_remove(Kind::Remove, |world| {
            find(world, name)?;
            Ok(NameChange::Unlink(name.to_owned()))
        })
        .await
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        self.disk.operate(Kind::Read, None, |_| Ok(Effect::None)).await?;
        Ok(self.disk.lock().medium.names.keys().cloned().collect())
    }

    async fn sync(&self) -> io::Result<()> {
        let effect = |world: &mut World| Ok(Effect::SyncNames(world.medium.sequence));
        self.disk.operate(Kind::SyncDirectory, None, effect).await
    }
}
