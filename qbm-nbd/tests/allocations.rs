//! A warm connection allocates nothing for a read or a write, over threads and over rings.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, ByteRange, Granularity, Host, Image, Unmap};
use qbm_io_std::{GatePolicy, StdDirectory, StdHost};
use qbm_io_uring::UringDirectory;
use qbm_nbd::{Export, Limits, Server, Socket};

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

const SIZE: u64 = 4 << 20;
const LENGTH: u32 = 64 << 10;
const READ: u16 = 0;
const WRITE: u16 = 1;

/// A client that allocates nothing itself.
struct Client {
    stream: UnixStream,
    bytes: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Begins with structured replies, on the default export.
    fn new(mut stream: UnixStream) -> Self {
        stream.read_exact(&mut [0; 18]).unwrap();
        let fixed_no_zeroes = 3_u32;
        stream.write_all(&fixed_no_zeroes.to_be_bytes()).unwrap();
        let mut option = |number: u32, answer: &mut [u8]| {
            stream.write_all(b"IHAVEOPT").unwrap();
            stream.write_all(&number.to_be_bytes()).unwrap();
            stream.write_all(&0_u32.to_be_bytes()).unwrap();
            stream.read_exact(answer).unwrap();
        };
        let (structured_reply, export_name) = (8, 1);
        option(structured_reply, &mut [0; 20]);
        option(export_name, &mut [0; 10]);
        let bytes = vec![7; LENGTH as usize];
        Self { stream, answer: vec![0; bytes.len() + 8], bytes }
    }

    /// Asks, and reads chunks until the last one, none of which may be an error.
    fn ask(&mut self, command: u16, offset: u64) {
        let mut header = [0; 28];
        header[..4].copy_from_slice(&0x2560_9513_u32.to_be_bytes());
        header[6..8].copy_from_slice(&command.to_be_bytes());
        header[16..24].copy_from_slice(&offset.to_be_bytes());
        header[24..].copy_from_slice(&LENGTH.to_be_bytes());
        self.stream.write_all(&header).unwrap();
        if command == WRITE {
            self.stream.write_all(&self.bytes).unwrap();
        }
        loop {
            let mut chunk = [0; 20];
            self.stream.read_exact(&mut chunk).unwrap();
            let is_error = chunk[6] & 0x80 != 0;
            assert!(!is_error, "an error chunk");
            let length = u32::from_be_bytes([chunk[16], chunk[17], chunk[18], chunk[19]]);
            self.stream.read_exact(&mut self.answer[..length as usize]).unwrap();
            if chunk[5] & 1 == 1 {
                return;
            }
        }
    }
}

/// An image with a bitmap, all of whose granules are marked.
fn marked(
    directory: StdDirectory,
    wrap: fn(StdDirectory) -> UringDirectory,
) -> Image<UringDirectory> {
    block_on(async {
        let directory = wrap(directory);
        let host: Arc<dyn Host> = Arc::new(StdHost);
        let (file, durability) = ("d.raw".to_owned(), Default::default());
        let options = CreateOptions { file, data: None, size: SIZE, durability };
        image::create(&directory, "i.qbm", options, &*host).await.unwrap();
        let options = OpenOptions::new(Access::Write);
        let image = Image::open(directory, "i.qbm", options, host).await.unwrap();
        let (name, granularity) = ("b".to_owned(), Granularity::DEFAULT);
        let add = BitmapAction::Add { name, granularity, disabled: false };
        image.transaction(&[add]).await.unwrap();
        image.write_zeroes(ByteRange::new(0, SIZE), Unmap::Forbidden).await.unwrap();
        image
    })
}

fn check(wrap: fn(StdDirectory) -> UringDirectory) {
    let folder = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let directory = StdDirectory::open(folder.path(), GatePolicy::closed()).unwrap();
    let export = Export {
        name: String::new(),
        description: String::new(),
        disk: Arc::new(marked(directory, wrap)),
        access: Access::Write,
        bitmaps: Vec::new(),
    };
    let server = Server::new(vec![export], Limits::default(), |line| panic!("{line}"));
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve_wire(Box::new(Socket::Unix(theirs))));
        let mut client = Client::new(ours);
        // Zeroes are read before anything is written there.
        let round = |client: &mut Client, offset: u64| {
            client.ask(READ, SIZE / 2 + offset);
            client.ask(WRITE, offset);
            client.ask(READ, offset);
        };
        for offset in (0..SIZE / 4).step_by(LENGTH as usize) {
            round(&mut client, offset);
        }
        let profiler = dhat::Profiler::builder().testing().build();
        for offset in (SIZE / 4..SIZE / 2).step_by(LENGTH as usize) {
            round(&mut client, offset);
        }
        assert_eq!(dhat::HeapStats::get().total_blocks, 0);
        drop(profiler);
        drop(client);
    });
}

#[test]
fn a_warm_connection_allocates_nothing_for_reads_and_writes() {
    check(UringDirectory::without_rings);
    check(|directory| UringDirectory::new(directory).unwrap());
}
