//! Commit, rebase, stream and a copy over another image, cut at every step: the disk stays what it is,
//! no mark of the base is lost, and what was cut short can be done again.

use std::collections::HashSet;
use std::sync::Arc;

use fastrand::Rng;
use qbm_core::bits::Bits;
use qbm_core::descriptor::{Durability, Format, ImageRef};
use qbm_core::graph::{self, CommitOptions, Onto};
use qbm_core::image::{
    self, BitmapAction, Contents, CreateOptions, OpenOptions, Over, OverlayOptions,
};
use qbm_core::{
    Access, Buffer, Directory, Disk as Operand, Granularity, Host, Image, Persist, Result, Storage,
};
use qbm_sim::{
    Disk, Executor, Grain, Harms, Loss, Medium, SimDirectory, SimFile, SimHost, Step, run,
};

const BASE: u64 = 6 * 512;
const TOP: u64 = 8 * 512 - 100;
const CLUSTER: u64 = 1024;
const CHAIN: [&str; 3] = ["base.qbm", "mid.qbm", "top.qbm"];
/// A raw disk that has nothing to do with the chain, and is like it in its first cluster only.
const OTHER: &str = "other.raw";
/// A copy of the disk over a part of the chain or over the other one, and its data image.
const COPY: &str = "copy.qbm";
const COPY_DATA: &str = "copy.raw";

/// What is done to the chain base, mid, top.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    CommitAndEmpty,
    CommitToBase,
    CommitWithBitmaps,
    Rebase,
    Stream,
    CopyOverBase,
    CopyOverOther,
}

fn host(seed: u64) -> Arc<dyn Host> {
    Arc::new(SimHost::new(seed))
}

async fn open(disk: &Disk, name: &str, access: Access, seed: u64) -> Result<Image<SimDirectory>> {
    Image::open(SimDirectory::new(disk), name, OpenOptions::new(access), host(seed)).await
}

async fn write(image: &Image<SimDirectory>, offset: u64, length: usize, byte: u8) {
    let mut buffer = Buffer::zeroed(length);
    buffer.fill(byte);
    image.write(offset, buffer, Persist::Later).await.unwrap();
}

/// A base with a bitmap, an overlay over it, and a longer one over that, which has a bitmap too.
fn chain() -> Medium {
    let disk = Disk::immediate(Medium::new(), 1);
    run(&disk, 1, async {
        let (directory, host) = (SimDirectory::new(&disk), host(1));
        let file = |name: &str| name.replace("qbm", "raw");
        let (file_of_base, durability) = (file(CHAIN[0]), Durability::Exact);
        let options = CreateOptions { file: file_of_base, data: None, size: BASE, durability };
        image::create(&directory, CHAIN[0], options, &*host).await.unwrap();
        let base = open(&disk, CHAIN[0], Access::Write, 2).await.unwrap();
        write(&base, 0, 2000, 1).await;
        base.transaction(&[add("b")]).await.unwrap();
        base.close().await.unwrap();
        for (index, size) in [(1, None), (2, Some(TOP))] {
            let options = OverlayOptions {
                file: file(CHAIN[index]),
                backing: ImageRef { file: CHAIN[index - 1].to_owned(), format: Format::Qbm },
                cluster: Granularity::from_bytes(CLUSTER).unwrap(),
                size,
                durability,
            };
            image::create_overlay(&directory, CHAIN[index], options, &*host).await.unwrap();
        }
        let mid = open(&disk, CHAIN[1], Access::Write, 3).await.unwrap();
        write(&mid, 700, 600, 2).await;
        mid.close().await.unwrap();
        let top = open(&disk, CHAIN[2], Access::Write, 4).await.unwrap();
        top.transaction(&[add("t")]).await.unwrap();
        write(&top, 100, 50, 3).await;
        write(&top, TOP - 300, 300, 4).await;
        let mut other = contents(&top).await;
        top.close().await.unwrap();
        other[1024..].fill(9);
        let file = directory.create(OTHER).await.unwrap();
        file.write_at(0, Buffer::from_slice(&other), Persist::Now).await.unwrap();
        directory.sync().await.unwrap();
    });
    disk.snapshot()
}

fn add(name: &str) -> BitmapAction {
    BitmapAction::Add { name: name.to_owned(), granularity: Granularity::MIN, disabled: false }
}

async fn contents(image: &Image<SimDirectory>) -> Vec<u8> {
    let length = usize::try_from(image.size()).unwrap();
    image.read(0, Buffer::zeroed(length)).await.unwrap().to_vec()
}

async fn perform(disk: &Disk, deed: Deed, seed: u64) -> Result<()> {
    let quiet = &mut |_| ();
    let depth = match deed {
        Deed::CommitAndEmpty | Deed::CommitWithBitmaps => 1,
        Deed::CommitToBase => 2,
        Deed::Rebase => {
            let base = open(disk, CHAIN[0], Access::Read, seed).await?;
            let top = open(disk, CHAIN[2], Access::Write, seed + 1).await?;
            let backing = ImageRef { file: CHAIN[0].to_owned(), format: Format::Qbm };
            let onto = Onto { backing, disk: Operand::Image(&base) };
            return graph::rebase(top, Some(onto), quiet).await.map(drop);
        }
        Deed::Stream => {
            let top = open(disk, CHAIN[2], Access::Write, seed).await?;
            let nothing: Option<Onto<'_, SimDirectory>> = None;
            return graph::rebase(top, nothing, quiet).await.map(drop);
        }
        Deed::CopyOverBase => {
            let base = open(disk, CHAIN[0], Access::Read, seed).await?;
            let backing = ImageRef { file: CHAIN[0].to_owned(), format: Format::Qbm };
            return copy_over(disk, (Operand::Image(&base), backing), &[0, 1, 3], seed).await;
        }
        Deed::CopyOverOther => {
            let file = SimDirectory::new(disk).open(OTHER, Access::Read).await.unwrap();
            let other = Operand::File { name: OTHER, file: &file, size: TOP };
            let backing = ImageRef { file: OTHER.to_owned(), format: Format::Raw };
            return copy_over(disk, (other, backing), &[1, 2, 3], seed).await;
        }
    };
    let base = open(disk, CHAIN[2 - depth], Access::Write, seed).await?;
    let options = OpenOptions { holds_behind: true, ..OpenOptions::new(Access::Write) };
    let top = Image::open(SimDirectory::new(disk), CHAIN[2], options, host(seed + 1)).await?;
    let empty = deed != Deed::CommitToBase;
    let merge_bitmaps = deed == Deed::CommitWithBitmaps;
    let options = CommitOptions { depth, empty, merge_bitmaps };
    graph::commit(&top, Operand::Image(&base), &options, quiet).await?;
    top.close().await?;
    base.close().await
}

/// Makes the copy over `over`, from which its clusters `expected` differ. One that is there is left alone.
async fn copy_over(
    disk: &Disk,
    (over, backing): (Operand<'_, SimDirectory>, ImageRef),
    expected: &[u64],
    seed: u64,
) -> Result<()> {
    let directory = SimDirectory::new(disk);
    if directory.open(COPY, Access::Read).await.is_ok() {
        return Ok(());
    }
    // What one that was cut short has left.
    let _removed = directory.remove(COPY_DATA).await;
    let top = open(disk, CHAIN[2], Access::Read, seed + 1).await?;
    let data = directory.create(COPY_DATA).await.unwrap();
    data.set_len(TOP).await.unwrap();
    let sink: Operand<'_, SimDirectory> = Operand::File { name: COPY_DATA, file: &data, size: TOP };
    let cluster = Granularity::from_bytes(CLUSTER).unwrap();
    let (source, sink) = (Operand::Image(&top), (sink, cluster));
    let own = graph::copy_over(source, over, sink, &mut |_| ()).await?;
    assert_eq!(own.areas().flatten().collect::<Vec<_>>(), expected, "what differs, and no more");
    let contents: Contents<SimFile> = Contents {
        file: COPY_DATA.to_owned(),
        data,
        over: Some(Over { backing, cluster, own }),
        bitmaps: Vec::new(),
        durability: Durability::Exact,
    };
    image::create_around(&directory, COPY, contents, &*host(seed + 2)).await
}

/// Recovers what a crash left, and checks the disk and the marks of the base; then does `deed` again.
fn check(medium: Medium, deed: Deed, expected: &[u8], seed: u64) {
    let disk = Disk::immediate(medium, seed);
    run(&disk, seed, async {
        for name in CHAIN {
            image::repair(SimDirectory::new(&disk), name, None, host(seed + 10)).await.unwrap();
        }
        assert_intact(&disk, expected, seed + 20).await;
        if deed != Deed::Stream && deed != Deed::Rebase || is_over(&disk, CHAIN[1]).await {
            perform(&disk, deed, seed + 30).await.unwrap();
        }
        assert_intact(&disk, expected, seed + 40).await;
    });
}

/// Whether `top` is still over `name`.
async fn is_over(disk: &Disk, name: &str) -> bool {
    let top = open(disk, CHAIN[2], Access::Read, 5).await.unwrap();
    top.descriptor().await.files().any(|file| file == name)
}

async fn assert_intact(disk: &Disk, expected: &[u8], seed: u64) {
    let top = open(disk, CHAIN[2], Access::Read, seed).await.unwrap();
    assert!(contents(&top).await == expected, "the disk is another");
    let marks = top.bitmap_bits("t").await.unwrap();
    assert_eq!(marks.areas().collect::<Vec<_>>(), [0..1, 7..8], "nothing of it has changed");
    if SimDirectory::new(disk).open(COPY, Access::Read).await.is_ok() {
        let copy = open(disk, COPY, Access::Read, seed + 2).await.unwrap();
        assert!(contents(&copy).await == expected, "a copy is there, and is another disk");
    }
    let base = open(disk, CHAIN[0], Access::Read, seed + 1).await.unwrap();
    let (now, marks) = (contents(&base).await, base.bitmap_bits("b").await.unwrap());
    let mut before = vec![0; now.len()];
    before[..2000].fill(1);
    for (granule, (now, before)) in now.chunks(512).zip(before.chunks(512)).enumerate() {
        assert!(now == before || marks.get(granule as u64), "granule {granule} lost its mark");
    }
}

/// All files with their bytes.
fn files_of(medium: &Medium) -> Vec<(String, Vec<u8>)> {
    let file = |name: &str| (name.to_owned(), medium.read(name).unwrap().to_vec());
    medium.names().map(file).collect()
}

/// Says which case failed.
struct Replay(Deed, u64, Loss);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(deed, step, loss) = self;
            eprintln!("{deed:?}, cut after step {step}, {loss:?}");
        }
    }
}

fn cut_everywhere(deed: Deed) {
    let medium = chain();
    let expected = run(&Disk::immediate(medium.clone(), 0), 0, async {
        let disk = Disk::immediate(medium.clone(), 0);
        contents(&open(&disk, CHAIN[2], Access::Read, 6).await.unwrap()).await
    });
    let disk = Disk::new(medium, 7);
    let mut executor = Executor::new(&[&disk], 8);
    executor.spawn("deed", async { perform(&disk, deed, 100).await.unwrap() });
    let (mut step, mut seen, mut checked) = (0, 0, HashSet::new());
    loop {
        let moved = executor.step() == Step::Moved;
        step += 1;
        if std::mem::replace(&mut seen, disk.activity()) != disk.activity() {
            let now = disk.snapshot();
            let mut losses = vec![Loss::Everything, Loss::Nothing];
            losses.extend((0..now.pending().min(16)).map(|index| Loss::Only(1 << index)));
            losses.extend((0..now.pending().min(16)).map(|index| Loss::Only(!(1 << index))));
            losses.push(Loss::Torn(Grain::Byte));
            for loss in losses {
                let left = now.power_loss(loss, &mut Rng::with_seed(step), &mut Harms::default());
                if checked.insert(files_of(&left)) {
                    let replay = Replay(deed, step, loss);
                    check(left, deed, &expected, 1000 * step);
                    drop(replay);
                }
            }
        }
        if !moved {
            break;
        }
    }
    assert!(checked.len() > 20, "{deed:?} was cut in {} states", checked.len());
    check(disk.snapshot(), deed, &expected, 9);
}

#[test]
fn a_commit_that_is_cut_leaves_the_disk() {
    cut_everywhere(Deed::CommitAndEmpty);
}

#[test]
fn so_does_one_to_the_base() {
    cut_everywhere(Deed::CommitToBase);
}

#[test]
fn so_does_one_with_bitmaps() {
    cut_everywhere(Deed::CommitWithBitmaps);
}

#[test]
fn a_rebase_that_is_cut_leaves_the_disk() {
    cut_everywhere(Deed::Rebase);
}

#[test]
fn so_does_a_stream() {
    cut_everywhere(Deed::Stream);
}

#[test]
fn so_does_a_copy_over_what_is_behind() {
    cut_everywhere(Deed::CopyOverBase);
}

#[test]
fn so_does_a_copy_over_another_disk() {
    cut_everywhere(Deed::CopyOverOther);
}

/// Two descriptors may name one data image, in which other clusters count: a rebase from the one to the other
/// looks at what they show.
#[test]
fn a_rebase_compares_images_that_share_a_data_image_and_not_its_clusters() {
    const TWIN: &str = "twin.qbm";
    let disk = Disk::immediate(chain(), 1);
    run(&disk, 1, async {
        let expected = contents(&open(&disk, CHAIN[2], Access::Read, 2).await.unwrap()).await;
        let directory = SimDirectory::new(&disk);
        let file = CHAIN[1].replace("qbm", "raw");
        let data = directory.open(&file, Access::Write).await.unwrap();
        let backing = ImageRef { file: CHAIN[0].to_owned(), format: Format::Qbm };
        let cluster = Granularity::from_bytes(CLUSTER).unwrap();
        let over = Some(Over { backing, cluster, own: Bits::new(cluster.granules_of(BASE)) });
        let durability = Durability::Exact;
        let contents_of_twin = Contents { file, data, over, bitmaps: Vec::new(), durability };
        image::create_around(&directory, TWIN, contents_of_twin, &*host(3)).await.unwrap();

        let twin = open(&disk, TWIN, Access::Read, 4).await.unwrap();
        let top = open(&disk, CHAIN[2], Access::Write, 5).await.unwrap();
        let backing = ImageRef { file: TWIN.to_owned(), format: Format::Qbm };
        let onto = Onto { backing, disk: Operand::Image(&twin) };
        graph::rebase(top, Some(onto), &mut |_| ()).await.unwrap();
        let top = open(&disk, CHAIN[2], Access::Read, 6).await.unwrap();
        assert!(contents(&top).await == expected, "the disk is another");
    });
}
