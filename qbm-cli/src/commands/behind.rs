//! What `qbm info --backing-chain` says of the images behind one.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use futures_executor::block_on;
use qbm_core::descriptor::{Descriptor, Format, MAX_DESCRIPTOR_BYTES, beside};
use qbm_core::image::MAX_LAYERS;
use qbm_core::{Access, Directory, Storage, directory::read_whole};
use serde_json::{Value, json};

use super::info::describe;
use crate::open::{FileDirectory, ImageArgs};

/// The facts of each image behind `image`, which has the descriptor `top`.
///
/// # Errors
///
/// If one of them cannot be read.
pub(super) fn facts(image: &ImageArgs, top: &Descriptor) -> anyhow::Result<Vec<Value>> {
    let (directory, name) = image.place()?;
    let folder = image.image.parent().unwrap_or(Path::new(""));
    let mut facts = Vec::new();
    let mut next = top.backing().map(|backing| (name, backing.clone()));
    while let Some((name, backing)) = next.take() {
        if facts.len() + 1 == MAX_LAYERS {
            bail!("{name}: more than {MAX_LAYERS} images are behind each other");
        }
        let file = beside(&name, &backing.file);
        let path = folder.join(&file);
        match backing.format {
            Format::Raw => facts.push(raw(&path, length(&directory, &file)?)),
            Format::Qbm => {
                let descriptor = read(&directory, &file)?;
                let size = match descriptor.size {
                    Some(size) => size,
                    None => length(&directory, &beside(&file, &descriptor.image.file))?,
                };
                facts.push(describe(&path, &descriptor, size, &[]));
                next = descriptor.backing().map(|backing| (file, backing.clone()));
            }
        }
    }
    Ok(facts)
}

fn length(directory: &FileDirectory, name: &str) -> anyhow::Result<u64> {
    let length = block_on(async { directory.open(name, Access::Read).await?.len().await });
    length.with_context(|| name.to_owned())
}

fn read(directory: &FileDirectory, name: &str) -> anyhow::Result<Descriptor> {
    let text = block_on(async {
        let file = directory.open(name, Access::Read).await?;
        read_whole(&file, MAX_DESCRIPTOR_BYTES).await
    });
    let text = text.with_context(|| name.to_owned())?;
    Descriptor::parse(&text).map_err(|error| anyhow::anyhow!("{name}:{error}"))
}

/// The facts of a raw image of `size` bytes.
fn raw(path: &Path, size: u64) -> Value {
    let mut info = json!({
        "filename": path.display().to_string(),
        "format": "raw",
        "virtual-size": size,
        "dirty-flag": false,
    });
    if let Ok(metadata) = path.symlink_metadata() {
        info["actual-size"] = json!(metadata.blocks() * 512);
    }
    info
}
