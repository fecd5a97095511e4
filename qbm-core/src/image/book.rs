//! The book: the descriptor on the medium, and its replace, the one commit point of an image.

use super::Image;
use crate::descriptor::{Descriptor, MAX_DESCRIPTOR_BYTES};
use crate::mutants::{self, Mutant};
use crate::{Directory, Error, Result, directory};

/// Bytes of the longest descriptor that must be free to open an image for writing, or to give it
/// more bitmaps: what is noted while it is open and at its close, such as a doubt of each bitmap,
/// is then never too long to be written.
const ROOM: usize = MAX_DESCRIPTOR_BYTES / 8;

/// Refuses a descriptor that leaves no [`ROOM`] once it is written.
pub(super) fn check_room(name: &str, descriptor: &Descriptor) -> Result<()> {
    let length = descriptor.text_len();
    let most = MAX_DESCRIPTOR_BYTES - ROOM;
    if length <= most {
        return Ok(());
    }
    let what = format!(
        "its descriptor would have {length} bytes, and to be written to, at most {most} are possible"
    );
    Err(Error::unusable(name, what))
}

/// The descriptor as it was last committed.
#[derive(Debug)]
pub(super) struct Book {
    descriptor: Descriptor,
}

impl Book {
    pub(super) fn new(descriptor: Descriptor) -> Self {
        Self { descriptor }
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

impl<D: Directory> Image<D> {
    /// Replaces the descriptor by what `edit` makes of it.
    pub(super) async fn commit_edit(&self, edit: impl FnOnce(&mut Descriptor)) -> Result<()> {
        let mut book = self.book.lock().await;
        let mut next = book.descriptor.clone();
        edit(&mut next);
        self.commit_book(&mut book, next).await
    }

    /// Replaces the descriptor by `next`.
    ///
    /// # Errors
    ///
    /// Any error of the directory. Either descriptor may then be found after a crash, so the
    /// caller keeps recording what either of them needs.
    pub(super) async fn commit_book(&self, book: &mut Book, next: Descriptor) -> Result<()> {
        self.write_descriptor(&self.name, &next).await?;
        // Without what belonged to bitmaps that are gone: a new one of the same name is another.
        book.descriptor = next.forget_removed();
        Ok(())
    }

    /// Writes `descriptor` durably under `name`.
    pub(super) async fn write_descriptor(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        let temporary = format!("{}.{}.tmp", self.name, self.host.fresh_id());
        let text = descriptor.to_text().map_err(Error::descriptor(name))?;
        if mutants::planted(Mutant::NoDirSync) {
            return replace_without_sync(&self.directory, &temporary, name, &text)
                .await
                .map_err(Error::io(name, "replace"));
        }
        directory::replace(&self.directory, &temporary, name, &text)
            .await
            .map_err(Error::io(name, "replace"))
    }
}

/// The bug of relying on a rename that a crash may still undo.
async fn replace_without_sync<D: Directory>(
    directory: &D,
    temporary: &str,
    name: &str,
    text: &[u8],
) -> std::io::Result<()> {
    use crate::{Buffer, Persist, Storage};
    let file = directory.create(temporary).await?;
    file.write_at(0, Buffer::from_slice(text), Persist::Later).await?;
    file.sync().await?;
    directory.rename(temporary, name).await
}
