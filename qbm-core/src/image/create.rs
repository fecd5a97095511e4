//! Creating an image: around a data image that is there, or with a new one.

use crate::descriptor::{Descriptor, Durability, Format, ImageRef};
use crate::units::MAX_SIZE;
use crate::{ByteRange, Directory, Error, Host, Lock, Result, Storage, directory as names};

/// How an image is created.
#[derive(Debug)]
pub struct CreateOptions<F> {
    /// The data image, by its name in the descriptor.
    pub file: String,
    /// The data image where it is there already: it is only read. `None` makes a new one.
    pub data: Option<F>,
    /// The size of a new data image in bytes.
    pub size: u64,
    /// When marks are to be durable.
    pub durability: Durability,
}

/// Creates the image `name` in `directory`, without bitmaps.
///
/// # Errors
///
/// [`Error::Unusable`] if the name is taken; otherwise any error of the directory or storage.
/// Nothing is then left behind that was not there before.
pub async fn create<D: Directory>(
    directory: &D,
    name: &str,
    options: CreateOptions<D::File>,
    host: &dyn Host,
) -> Result<()> {
    names::refuse_taken(directory, name).await?;
    let CreateOptions { file, data, size, durability } = options;
    let is_new = data.is_none();
    let made = async {
        let data = match data {
            Some(data) => data,
            None => create_data(directory, &file, size).await?,
        };
        data.lock(Lock::Read).await.map_err(Error::io(&file, "lock"))?;
        describe(directory, name, (&file, &data), (durability, host)).await
    };
    let made = made.await;
    if made.is_err() && is_new && !matches!(&made, Err(Error::Io { action: "create", .. })) {
        // Best effort: a data image that no descriptor names.
        let _removed = directory.remove(&file).await;
    }
    made
}

async fn create_data<D: Directory>(directory: &D, file: &str, size: u64) -> Result<D::File> {
    if size > MAX_SIZE {
        return Err(Error::OutOfRange { range: ByteRange::new(MAX_SIZE, 0), size: MAX_SIZE });
    }
    let data = directory.create(file).await.map_err(Error::io(file, "create"))?;
    data.set_len(size).await.map_err(Error::io(file, "resize"))?;
    // Before a descriptor names it; `replace` syncs the directory.
    data.sync().await.map_err(Error::io(file, "sync"))?;
    directory.sync().await.map_err(Error::io(file, "sync the directory of"))?;
    Ok(data)
}

async fn describe<D: Directory>(
    directory: &D,
    name: &str,
    (file, data): (&str, &D::File),
    (durability, host): (Durability, &dyn Host),
) -> Result<()> {
    let stat = Error::io(file, "stat");
    let size = match data.len().await {
        Ok(size) if size <= MAX_SIZE => size,
        Ok(size) => return Err(Error::unusable(file, format!("{size} bytes are too many"))),
        Err(error) => return Err(stat(error)),
    };
    let mut descriptor = Descriptor::new(ImageRef { file: file.to_owned(), format: Format::Raw });
    descriptor.id = Some(host.fresh_id());
    descriptor.size = Some(size);
    descriptor.durability = durability;
    descriptor.stamp = data.identity().await.map_err(Error::io(file, "stat"))?;
    let temporary = format!("{name}.{}.tmp", host.fresh_id());
    let text = descriptor.to_text().map_err(Error::descriptor(name))?;
    names::replace(directory, &temporary, name, &text).await.map_err(Error::io(name, "create"))
}
