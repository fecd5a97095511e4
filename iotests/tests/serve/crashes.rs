//! Clients and servers that are gone in the middle of a request: no mark is lost.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use iotests::{Served, folder_with_image, rounds, tool};

use super::{GRANULE, MIB, marked, qemu_io};

const SIZE: u64 = 64 * MIB;

/// A client in transmission, by the shortest way there is.
fn connect(folder: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(folder.join("qbm.sock")).unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    // Fixed newstyle without zeroes; NBD_OPT_EXPORT_NAME of the empty name.
    stream.write_all(&3_u32.to_be_bytes()).unwrap();
    stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0").unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream
}

/// A write of `length` bytes, none of them zero.
fn write_request(offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(offset.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(vec![7; usize::try_from(length).unwrap()]);
    bytes
}

/// The granules of the disk that hold something.
fn changed(folder: &Path) -> Vec<u64> {
    let disk = fs::read(folder.join("vm.raw")).unwrap();
    let granules = (0..).zip(disk.chunks(usize::try_from(GRANULE).unwrap()));
    granules.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).map(|(g, _)| g).collect()
}

/// A request of an NBD client: 0 reads, 1 writes.
fn request(command: u8, length: u64) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, command]);
    bytes.extend([0; 16]);
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes
}

/// A client that asks for gigabytes, and reads nothing: a request is worked on in pieces of 2 MiB, 16 at a time.
#[test]
fn memory_for_a_client_is_bounded() {
    // For the client that reads nothing, for the one that is served meanwhile, and for the program.
    const MOST: u64 = 32 * MIB + 32 * MIB + 16 * MIB;
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    let mut client = connect(folder);
    for length in [32 * MIB, 2 * MIB, 2 * MIB + 1] {
        client.write_all(&request(0, length).repeat(40)).unwrap();
    }
    // Another client is served meanwhile, and sees to it that all of that has been looked at.
    qemu_io(folder, served.uri(), &["write 0 32M", "read 0 32M", "flush"]);
    let peak = served.peak_memory();
    assert!(peak <= MOST, "{peak} bytes");
    assert!(served.stop().0.success());
}

/// The same a thousand times, every other one with parts of writes. They would have 32 GiB for their first requests
/// alone.
#[test]
fn memory_for_a_thousand_clients_is_bounded_and_an_honest_one_is_served() {
    // What the limit says, 128 KiB for each client, and as much for its threads and its sockets.
    const MOST: u64 = 256 * MIB + 2 * 128 * MIB + 16 * MIB;
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = Served::start(folder, &["--max-connections", "1001", "vm.qbm"]);
    let mut clients: Vec<_> = (0..1000).map(|_| connect(folder)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        if index % 2 == 0 {
            client.write_all(&request(0, 32 * MIB).repeat(20)).unwrap();
        } else {
            client.write_all(&request(1, 32 * MIB)).unwrap();
            client.write_all(&[1; 100_000]).unwrap();
        }
    }
    qemu_io(folder, served.uri(), &["write -P 5 32M 8M", "read -P 5 32M 8M", "flush"]);
    let peak = served.peak_memory();
    assert!(peak <= MOST, "{peak} bytes");
    drop(clients);
    assert!(served.stop().0.success());
}

/// Clients that are gone at any byte, with requests in flight; then the server is killed or stopped.
/// Whatever has reached the disk is marked.
#[test]
fn a_client_that_disappears_mid_request_loses_no_mark() {
    let mut most = 0;
    rounds(12, |seed| {
        let mut random = seed.random();
        let folder = folder_with_image(SIZE);
        let folder = folder.path();
        let served = Served::start(folder, &["vm.qbm"]);
        thread::scope(|scope| {
            for _ in 0..3 {
                let mut random = random.fork();
                scope.spawn(move || {
                    let mut stream = connect(folder);
                    let count = random.u32(1..100);
                    let writes = (0..count).flat_map(|_| {
                        let length = random.u32(1..100_000);
                        write_request(random.u64(0..SIZE - u64::from(length)), length)
                    });
                    let writes: Vec<u8> = writes.collect();
                    let cut = random.usize(0..=writes.len());
                    stream.write_all(&writes[..cut]).unwrap();
                    if random.bool() {
                        stream.shutdown(Shutdown::Both).unwrap();
                    }
                });
            }
        });
        let killed = random.bool();
        if killed {
            served.kill();
        } else {
            assert!(served.stop().0.success());
        }
        let (changed, marked) = (changed(folder), marked(folder));
        let lost: Vec<_> = changed.iter().filter(|granule| !marked.contains(granule)).collect();
        assert!(lost.is_empty(), "lost marks of granules {lost:?}; killed: {killed}");
        most = most.max(changed.len());
    });
    assert!(most > 100, "hardly anything was written: {most} granules");
}

/// The server is killed and started again while a client holds its disk: QEMU connects again, and
/// goes on; nothing that either of them has written is lost, and all of it is marked.
#[test]
fn a_client_goes_on_after_the_server_was_killed() {
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    let options = "driver=nbd,server.type=unix,server.path=qbm.sock,reconnect-delay=30";
    let mut client = tool("stdbuf")
        .current_dir(folder)
        .args(["-oL", "qemu-io", "--image-opts", options])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut say = client.stdin.take().unwrap();
    let mut hear = client.stdout.take().unwrap();
    let mut write = |command: &str| {
        writeln!(say, "{command}").unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"ops/sec)\n") {
            let mut byte = [0];
            hear.read_exact(&mut byte).unwrap();
            said.extend(byte);
        }
    };
    write("write -P 1 0 200k");
    served.kill();
    let served = Served::start(folder, &["vm.qbm"]);
    write("write -P 2 10M 200k");
    write("read -P 1 0 200k");
    drop(say);
    assert!(client.wait().unwrap().success());
    assert!(served.stop().0.success());
    assert_eq!(changed(folder), [0, 1, 2, 3, 160, 161, 162, 163]);
    assert_eq!(marked(folder), changed(folder));
    let check = ["read -P 1 0 200k", "read -P 2 10M 200k"];
    qemu_io(folder, "vm.raw", &check);
}
