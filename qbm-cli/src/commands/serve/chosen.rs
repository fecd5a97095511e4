//! Which images are served, and under which names.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_executor::block_on;
use qbm_core::{Access, Error};
use qbm_nbd::Export;

use super::ServeArgs;
use super::control::{ExportedDisk, Graph, Node};
use crate::disk::DiskFormat;
use crate::open::{FileImage, ImageArgs, naming};

/// `[NAME=]IMAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The name that clients ask for.
    name: Option<String>,
    path: PathBuf,
}

impl Chosen {
    /// Reads it. What is before the first `=` is a name, unless it has a `/`.
    pub(super) fn parse(text: OsString) -> Result<Self, String> {
        let parts = text.to_str().and_then(|text| text.split_once('='));
        let Some((name, path)) = parts.filter(|(name, _)| !name.contains('/')) else {
            return Ok(Self { name: None, path: text.into() });
        };
        if path.is_empty() {
            return Err("there is no image after the `=`".to_owned());
        }
        Ok(Self { name: Some(super::short_text(name)?), path: path.into() })
    }
}

/// An image that is served, and under which name.
pub(super) struct Opened {
    /// Its descriptor, as the command line names it.
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) image: Arc<FileImage>,
    /// What clients see of it.
    pub(super) disk: Arc<ExportedDisk>,
}

/// Opens all that `args` name, as nodes of `graph`.
///
/// # Errors
///
/// If one cannot be opened or lacks what is to be exported, or two have the same name. Those that were
/// opened are in the graph all the same.
pub(super) fn open(args: &ServeArgs, graph: &Graph) -> anyhow::Result<Vec<Opened>> {
    let names = names(args)?;
    let mut opened = Vec::new();
    let several = names.len() > 1;
    let all = names.into_iter().zip(&args.images).try_for_each(|(name, chosen)| {
        let image = ImageArgs {
            image: chosen.path.clone(),
            format: DiskFormat::Qbm,
            data_file: args.data_file.clone(),
            gate: args.gate.clone(),
        };
        let access = if args.read_only { Access::Read } else { Access::Write };
        let disk = image.open_by(args.aio, access, false)?;
        // Of several the files may be called the same, in different folders.
        let node = if several { name.clone() } else { disk.name().to_owned() };
        let image = Arc::new(disk);
        let node = graph.add(Node::of_image(node, &chosen.path, Arc::clone(&image)));
        let disk = graph.disk(&node);
        opened.push(Opened { path: chosen.path.clone(), name, image, disk });
        Ok(())
    });
    all.and_then(|()| check_bitmaps(&opened, &args.bitmap)).map(|()| opened)
}

/// The name of each image: the one that it is given, or that of its file where there are several.
fn names(args: &ServeArgs) -> anyhow::Result<Vec<String>> {
    if let [Chosen { name, .. }] = &args.images[..] {
        let name = match (name, &args.export_name) {
            (Some(_), Some(_)) => bail!("--export-name: the image has a name already"),
            (name, other) => name.as_ref().or(other.as_ref()).cloned().unwrap_or_default(),
        };
        return Ok(vec![name]);
    }
    if args.export_name.is_some() || args.data_file.is_some() {
        bail!("--export-name and --data-file are for one image; NAME=IMAGE names several");
    }
    let mut names: Vec<String> = Vec::new();
    for Chosen { name, path } in &args.images {
        let file = || path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.clone().or_else(file).with_context(|| path.display().to_string())?;
        if names.contains(&name) {
            bail!("two images are called '{name}'; NAME=IMAGE gives one of them another name");
        }
        names.push(name);
    }
    Ok(names)
}

/// That each bitmap is in some image.
fn check_bitmaps(opened: &[Opened], wanted: &[String]) -> anyhow::Result<()> {
    for name in wanted {
        if !opened.iter().any(|opened| has_bitmap(&opened.image, name)) {
            let first = opened.first().map(|opened| opened.path.clone());
            let image = first.unwrap_or_default();
            return Err(naming(&image)(Error::BitmapNotFound(name.clone())));
        }
    }
    Ok(())
}

fn has_bitmap(image: &FileImage, name: &str) -> bool {
    block_on(image.bitmaps()).iter().any(|bitmap| bitmap.name == name)
}

impl Opened {
    /// As clients see it: with those of `bitmaps` that it has.
    pub(super) fn export(&self, description: &str, bitmaps: &[String]) -> Export {
        let image = &self.image;
        let bitmaps = bitmaps.iter().filter(|name| has_bitmap(image, name));
        Export {
            name: self.name.clone(),
            description: description.to_owned(),
            access: image.access(),
            disk: Arc::clone(&self.disk) as _,
            bitmaps: bitmaps.cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use qbm_nbd::limits::MAX_NAME;

    use super::*;

    #[test]
    fn a_name_comes_before_an_equals_sign_and_has_no_slash() {
        let parse = |text: &str| Chosen::parse(text.into());
        let chosen = |name: Option<&str>, path: &str| {
            Ok(Chosen { name: name.map(str::to_owned), path: path.into() })
        };
        assert_eq!(parse("vm.qbm"), chosen(None, "vm.qbm"));
        assert_eq!(parse("vm=a/vm.qbm"), chosen(Some("vm"), "a/vm.qbm"));
        assert_eq!(parse("=vm.qbm"), chosen(Some(""), "vm.qbm"));
        assert_eq!(parse("./a=b.qbm"), chosen(None, "./a=b.qbm"));
        assert_eq!(parse("a=b=c"), chosen(Some("a"), "b=c"));
        parse("vm=").expect_err("no image");
        parse(&format!("{}=vm.qbm", "x".repeat(MAX_NAME + 1))).expect_err("a long name");
    }
}
