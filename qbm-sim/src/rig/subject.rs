//! What the image under test is: flat, or an overlay.

use std::sync::{Arc, OnceLock};

use qbm_core::backup;
use qbm_core::descriptor::{Durability, Format, ImageRef};
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions, OverlayOptions};
use qbm_core::{Access, Buffer, Directory, Granularity, Host, Image, Persist, Storage};

use super::model::GRANULE;
use super::{BACKUP, DATA, IMAGE, MAX_SIZE, Media, SIZE, USER, backup_options, now, open};
use crate::{Disk, Medium, SimDirectory, SimHost};

/// What is behind an overlay.
const BASE: &str = "base.raw";

/// What every byte of it is; no write has it.
pub(crate) const BASE_BYTE: u8 = 200;

/// What the image under test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// All of its disk is in its data image, zero at first.
    Flat,
    /// It shows an image that is shorter than its disk.
    OverShort,
    /// It shows an image that is longer than its disk ever gets.
    OverLong,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Flat, Self::OverShort, Self::OverLong];

    /// That of the case `seed`: one half are flat.
    pub fn of_case(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::OverShort,
            3 => Self::OverLong,
            _ => Self::Flat,
        }
    }

    /// How long the image behind it is, in bytes.
    pub(crate) fn behind(self) -> usize {
        match self {
            Self::Flat => 0,
            Self::OverShort => 9 * GRANULE + 100,
            Self::OverLong => MAX_SIZE + GRANULE,
        }
    }

    /// What its disk holds at first.
    pub(crate) fn contents(self) -> Vec<u8> {
        let byte = |offset| if offset < self.behind() { BASE_BYTE } else { 0 };
        (0..SIZE).map(byte).collect()
    }

    /// Where every case begins.
    pub(crate) fn begun(self) -> &'static Media {
        static BEGUN: [OnceLock<Media>; Subject::ALL.len()] =
            [const { OnceLock::new() }; Subject::ALL.len()];
        BEGUN[self as usize].get_or_init(|| self.set_up(0))
    }

    /// An image with a user's bitmap, and one full backup of it.
    fn set_up(self, seed: u64) -> Media {
        let (source, target) =
            (Disk::immediate(Medium::new(), seed), Disk::immediate(Medium::new(), seed));
        let host: Arc<dyn Host> = Arc::new(SimHost::new(seed));
        now(async {
            self.create(&SimDirectory::new(&source), &*host).await;
            let image = open(&source, &host).await.expect("open");
            let add = |name: &str| BitmapAction::Add {
                name: name.to_owned(),
                granularity: Granularity::MIN,
                disabled: false,
            };
            image.transaction(&[add(BACKUP), add(USER)]).await.expect("add");
            let target = SimDirectory::new(&target);
            let options = backup_options("0");
            backup::run(&image, &target, &options, &host, &mut |_| {}).await.expect("backup");
            image.close().await.expect("close");
        });
        Media { source: source.snapshot(), target: target.snapshot() }
    }

    async fn create(self, directory: &SimDirectory, host: &dyn Host) {
        let (file, durability) = (DATA.to_owned(), Durability::Exact);
        if self == Self::Flat {
            let options = CreateOptions { file, data: None, size: SIZE as u64, durability };
            return image::create(directory, IMAGE, options, host).await.expect("create");
        }
        let base = directory.create(BASE).await.expect("a new name");
        let bytes = Buffer::from_slice(&vec![BASE_BYTE; self.behind()]);
        base.write_at(0, bytes, Persist::Now).await.expect("a sound medium");
        drop(base);
        let options = OverlayOptions {
            file,
            backing: ImageRef { file: BASE.to_owned(), format: Format::Raw },
            // Two granules, so that what is marked is not what is copied.
            cluster: Granularity::from_bytes(2 * GRANULE as u64).expect("a power of two"),
            size: Some(SIZE as u64),
            durability,
        };
        image::create_overlay(directory, IMAGE, options, host).await.expect("create");
    }
}

/// What the disk of `image` holds.
pub(crate) async fn contents(image: &Image<SimDirectory>) -> qbm_core::Result<Vec<u8>> {
    let size = usize::try_from(image.size()).expect("a small disk");
    Ok(image.read(0, Buffer::zeroed(size)).await?.to_vec())
}

/// What the disk of the image on `media` holds, before anybody has recovered it.
pub(crate) fn left_in(media: &Media) -> Vec<u8> {
    let disk = Disk::immediate(media.source.clone(), 0);
    let options = OpenOptions::new(Access::Read);
    let host = Arc::new(SimHost::new(0));
    now(async {
        let image = Image::open(SimDirectory::new(&disk), IMAGE, options, host).await;
        contents(&image.expect("P4: what is left can be read")).await.expect("a sound medium")
    })
}
