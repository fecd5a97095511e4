//! An image of a model: a directory in memory, and what a power cut would leave of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::explore::block_on;
use super::file::{File, Watch};
use crate::descriptor::{Bitmap, BitmapKind, Descriptor, Format, ImageRef, SegmentRef};
use crate::host::Opener;
use crate::image::OpenOptions;
use crate::sync::{Mutex, MutexGuard};
use crate::{Access, ByteRange, Directory, Granularity, Host, Id, Image, Timestamp};

/// Bytes of a granule.
pub(super) const GRANULE: u64 = 512;

/// Granules of the disk.
const GRANULES: u8 = 2;

/// The names of the descriptor, the data and the one bitmap that is there from the start.
const IMAGE: &str = "image";
const DATA: &str = "data";
pub(super) const BITMAP: &str = "bitmap";

/// The name of what is behind an overlay, and each of its bytes.
const BASE: &str = "base";
pub(super) const BEHIND: u8 = 200;

/// A directory. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Mutex<Names>>);

/// The files by their names.
#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<String, File>,
    /// As they would be after a power cut.
    durable: BTreeMap<String, File>,
    /// Whether nothing more can be created.
    full: bool,
}

impl Disk {
    /// A disk with an image that was closed cleanly, and has one dirty bitmap.
    pub(super) fn new(data: &File) -> Self {
        Self::with(data, BitmapKind::Dirty)
    }

    /// The same with an overlay, and no dirty bitmap: every byte of what is behind it is [`BEHIND`].
    pub(super) fn overlay(data: &File) -> Self {
        let backing = Some(ImageRef { file: BASE.to_owned(), format: Format::Raw });
        Self::with(data, BitmapKind::Allocation { backing })
    }

    fn with(data: &File, kind: BitmapKind) -> Self {
        let image = |file: &str| ImageRef { file: file.to_owned(), format: Format::Raw };
        let mut descriptor = Descriptor::new(image(DATA));
        descriptor.bitmaps.push(Bitmap {
            name: BITMAP.to_owned(),
            granularity: Granularity::MIN,
            kind,
            segments: vec![SegmentRef { file: "bits".to_owned(), point: None }],
            disabled: false,
            doubt: None,
            seal: None,
        });
        let text = descriptor.to_text().expect("a short descriptor");
        let files = [
            (IMAGE, File::new(&text)),
            (DATA, data.clone()),
            ("bits", File::new(&[0])),
            (BASE, File::new(&vec![BEHIND; data.now().len()])),
        ];
        let now: BTreeMap<_, _> =
            files.into_iter().map(|(name, file)| (name.to_owned(), file)).collect();
        let durable = now.clone();
        Self(Arc::new(Mutex::new(Names { now, durable, full: false })))
    }

    /// Opens the image. Whatever is written to its data from here on must be marked on the medium.
    pub(super) fn open(&self) -> Arc<Image<Self>> {
        let disk = self.clone();
        let watch: Watch = Arc::new(move |range| {
            for (name, marks) in disk.marks_after_power_cut() {
                let marked = granules(range).all(|granule| marks & 1 << granule != 0);
                assert!(marked, "{range:?} is being written, and '{name}' does not mark it");
            }
        });
        let data = self.names().now[DATA].clone().watched(watch);
        let options = OpenOptions { data: Some(data), ..OpenOptions::new(Access::Write) };
        let image = Image::open(self.clone(), IMAGE, options, Arc::new(Counter::default()));
        Arc::new(block_on(image).expect("an image in order"))
    }

    /// The bitmaps that record, each with the marks that a power cut would surely leave.
    pub(super) fn marks_after_power_cut(&self) -> Vec<(String, u8)> {
        let files = self.names().durable.clone();
        let marks = |segment: &SegmentRef| {
            let file = files.get(&segment.file).expect("a durable name names a durable one");
            file.durable().first().copied().unwrap_or(0)
        };
        let bitmaps = descriptor(&files[IMAGE]).bitmaps;
        let dirty = bitmaps.into_iter().filter(|bitmap| bitmap.kind == BitmapKind::Dirty);
        let recording = dirty.filter(|bitmap| !bitmap.disabled);
        recording
            .map(|bitmap| (bitmap.name, bitmap.segments.iter().map(marks).fold(0, |a, b| a | b)))
            .collect()
    }

    /// The descriptor that a power cut would surely leave.
    pub(super) fn durable_descriptor(&self) -> Descriptor {
        let file = self.names().durable[IMAGE].clone();
        descriptor(&file)
    }

    /// The file that the bitmap starts with.
    pub(super) fn bits(&self) -> File {
        self.names().now["bits"].clone()
    }

    /// Lets every creation fail from here on.
    pub(super) fn fill_up(&self) {
        self.names().full = true;
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().expect("a thread that fails ends the model")
    }
}

/// A data image of [`GRANULES`] granules, all zero.
pub(super) fn data(make: fn(&[u8]) -> File) -> File {
    make(&vec![0; usize::from(GRANULES) * 512])
}

fn granules(range: ByteRange) -> std::ops::Range<u64> {
    Granularity::MIN.granules_touched(range)
}

fn descriptor(file: &File) -> Descriptor {
    Descriptor::parse(&file.durable()).expect("a durable name is one of whole contents")
}

#[async_trait]
impl Directory for Disk {
    type File = File;

    async fn open(&self, name: &str, _access: Access) -> io::Result<File> {
        self.names().now.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn create(&self, name: &str) -> io::Result<File> {
        let mut names = self.names();
        if names.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = File::new(&[]);
        names.now.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = self.names();
        let file = names.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.now.insert(to.to_owned(), file);
        Ok(())
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.names().now.remove(name);
        Ok(())
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names().now.keys().cloned().collect())
    }

    async fn sync(&self) -> io::Result<()> {
        let mut names = self.names();
        names.durable = names.now.clone();
        Ok(())
    }
}

/// A host that counts.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Host for Counter {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn fresh_id(&self) -> Id {
        Id(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }

    fn opener(&self) -> Opener {
        Opener { pid: 1, program: "model".to_owned(), boot: "boot".to_owned() }
    }
}
