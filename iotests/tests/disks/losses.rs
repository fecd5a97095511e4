//! Servers that go away: what may go on, and what must not.

use std::fs;
use std::path::Path;

use futures_executor::block_on;
use qbm_core::{Access, Buffer, ByteRange, Persist, Storage};
use qbm_nbd::NbdStorage;

use super::servers::Server;

fn server(folder: &Path) -> Server {
    Server::nbdkit(folder, &["file", "disk"])
}

fn folder_with_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk"), vec![1; 1 << 20]).unwrap();
    folder
}

fn write(disk: &NbdStorage) -> std::io::Result<()> {
    block_on(disk.write_at(0, Buffer::from_slice(&[7; 4096]), Persist::Later)).map(drop)
}

fn read(disk: &NbdStorage) -> std::io::Result<u8> {
    block_on(disk.read_at(0, Buffer::zeroed(4096))).map(|buffer| buffer[0])
}

/// With all writes flushed, nothing is lost with the server: reads, writes and flushes go on when it is
/// back.
#[test]
fn a_server_may_be_started_anew_while_nothing_is_at_stake() {
    let folder = folder_with_disk();
    let mut now = server(folder.path());
    let disk = now.connect(Access::Write).unwrap();
    let mut start_anew = || {
        now.kill();
        now = server(folder.path());
    };
    assert_eq!(read(&disk).unwrap(), 1);
    start_anew();
    assert_eq!(read(&disk).unwrap(), 1);
    start_anew();
    write(&disk).unwrap();
    block_on(disk.sync()).unwrap();
    start_anew();
    block_on(disk.sync()).unwrap();
    start_anew();
    block_on(disk.discard(ByteRange::new(8192, 4096))).unwrap();
    block_on(disk.sync()).unwrap();
    start_anew();
    assert_eq!(read(&disk).unwrap(), 7);
}

/// A server that is gone may have lost what it had acknowledged, and one that comes back does not know of
/// it: no later flush may say that it is durable, and no read may show what was before.
#[test]
fn a_server_that_goes_with_writes_takes_the_disk_with_it() {
    let folder = folder_with_disk();
    let first = server(folder.path());
    let disk = first.connect(Access::Write).unwrap();
    write(&disk).unwrap();
    first.kill();
    let again = server(folder.path());
    for _ in 0..2 {
        let error = block_on(disk.sync()).unwrap_err().to_string();
        assert!(error.contains("writes were not flushed"), "{error}");
        read(&disk).unwrap_err();
        write(&disk).unwrap_err();
    }
    // Opened anew it is a disk again.
    let disk = again.connect(Access::Write).unwrap();
    write(&disk).unwrap();
    block_on(disk.sync()).unwrap();
    assert_eq!(read(&disk).unwrap(), 7);
}

/// A failed flush is believed for good.
#[test]
fn a_failed_flush_takes_the_disk_with_it() {
    let folder = folder_with_disk();
    let fail = folder.path().join("fail");
    let flush =
        format!("flush=[ ! -e {} ] || {{ echo EIO no medium >&2; exit 1; }}", fail.display());
    let write_nothing = ["can_write=exit 0", "can_flush=exit 0", "pwrite=cat > /dev/null", &flush];
    let eval = ["eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero"];
    let server = Server::nbdkit(folder.path(), &[&eval[..], &write_nothing].concat());
    let disk = server.connect(Access::Write).unwrap();
    write(&disk).unwrap();
    block_on(disk.sync()).unwrap();
    fs::write(&fail, "").unwrap();
    write(&disk).unwrap();
    block_on(disk.sync()).unwrap_err();
    fs::remove_file(&fail).unwrap();
    let error = block_on(disk.sync()).unwrap_err().to_string();
    assert!(error.starts_with("a flush has failed"), "{error}");
}

/// One that comes back as something else is not taken for the same disk.
#[test]
fn another_disk_at_the_same_place_is_refused() {
    let folder = folder_with_disk();
    let first = server(folder.path());
    let disk = first.connect(Access::Write).unwrap();
    first.kill();
    let _other = Server::nbdkit(folder.path(), &["memory", "2M"]);
    assert_eq!(read(&disk).unwrap_err().to_string(), "the server came back with another disk");
}
