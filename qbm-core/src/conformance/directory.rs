//! Claims about an empty directory.

use std::io;

use super::transfer::{length, read, write};
use crate::directory::{read_whole, replace};
use crate::{Access, Directory, Lock, Storage};

async fn create<D: Directory>(directory: &D, name: &str, contents: &[u8]) -> D::File {
    let file = directory.create(name).await.expect("create");
    write(&file, 0, contents).await;
    file
}

async fn contents<D: Directory>(directory: &D, name: &str) -> Vec<u8> {
    let file = directory.open(name, Access::Read).await.expect("open");
    read_whole(&file, 1 << 20).await.expect("read_whole")
}

async fn names<D: Directory>(directory: &D) -> Vec<String> {
    let mut names = directory.list().await.expect("list");
    names.sort_unstable();
    names
}

fn assert_kind<T>(result: io::Result<T>, kind: io::ErrorKind, claim: &str) {
    assert_eq!(result.err().map(|error| error.kind()), Some(kind), "{claim}");
}

/// Opening, renaming and removing what is not there fail, and make nothing.
pub async fn a_name_that_is_not_there_is_not_found<D: Directory>(directory: &D) {
    for access in [Access::Read, Access::Write] {
        let opened = directory.open("absent", access).await;
        assert_kind(opened, io::ErrorKind::NotFound, "open of an absent name");
    }
    let renamed = directory.rename("absent", "other").await;
    assert_kind(renamed, io::ErrorKind::NotFound, "rename of an absent name");
    let removed = directory.remove("absent").await;
    assert_kind(removed, io::ErrorKind::NotFound, "remove of an absent name");
    assert!(names(directory).await.is_empty(), "a failure made a name");
}

/// A new file has no bytes, and can be written and read.
pub async fn a_created_file_is_empty<D: Directory>(directory: &D) {
    let file = directory.create("new").await.expect("create");
    assert_eq!(length(&file).await, 0, "a new file is empty");
    write(&file, 0, b"abc").await;
    assert_eq!(read(&file, 0, 3).await, b"abc");
    directory.sync().await.expect("sync");
    assert_eq!(contents(directory, "new").await, b"abc");
}

/// A name is created once, and what has it is left alone.
pub async fn create_refuses_a_name_that_is_taken<D: Directory>(directory: &D) {
    create(directory, "taken", b"first").await;
    let second = directory.create("taken").await;
    assert_kind(second, io::ErrorKind::AlreadyExists, "create of a name that is taken");
    assert_eq!(contents(directory, "taken").await, b"first");
}

/// What one handle writes, others read; reading needs no more than reading access.
pub async fn handles_of_one_name_are_one_file<D: Directory>(directory: &D) {
    let first = create(directory, "file", b"abc").await;
    let second = directory.open("file", Access::Write).await.expect("open");
    write(&second, 1, b"xy").await;
    assert_eq!(read(&first, 0, 3).await, b"axy");
    assert_eq!(contents(directory, "file").await, b"axy");
}

/// A handle for reading is enough for a lock for reading, and that keeps writers out.
pub async fn a_handle_for_reading_can_be_locked<D: Directory>(directory: &D) {
    let writer = create(directory, "file", b"abc").await;
    let reader = directory.open("file", Access::Read).await.expect("open");
    reader.lock(Lock::Read).await.expect("a lock for reading");
    let refused = writer.lock(Lock::Write).await;
    assert_kind(refused, io::ErrorKind::ResourceBusy, "a reader excludes writers");
}

/// After a rename the new name has the file, and the old name is gone; handles keep their files.
pub async fn rename_drops_the_file_that_had_the_name<D: Directory>(directory: &D) {
    let old = create(directory, "name", b"old").await;
    let new = create(directory, "temporary", b"new").await;
    directory.rename("temporary", "name").await.expect("rename");
    assert_eq!(contents(directory, "name").await, b"new");
    assert_eq!(names(directory).await, ["name"]);
    assert_eq!(read(&old, 0, 3).await, b"old", "a handle keeps the file that lost its name");
    write(&new, 0, b"NEW").await;
    assert_eq!(contents(directory, "name").await, b"NEW", "a handle follows its file");
    directory.rename("name", "free").await.expect("rename");
    assert_eq!(names(directory).await, ["free"]);
}

/// Removing takes the name away and not the file from who has it open.
pub async fn a_removed_file_lives_on_in_its_handles<D: Directory>(directory: &D) {
    let removed = create(directory, "name", b"old").await;
    directory.remove("name").await.expect("remove");
    let opened = directory.open("name", Access::Read).await;
    assert_kind(opened, io::ErrorKind::NotFound, "open of a removed name");
    write(&removed, 3, b"er").await;
    assert_eq!(read(&removed, 0, 5).await, b"older", "a handle outlives its name");
    create(directory, "name", b"new").await;
    assert_eq!(read(&removed, 0, 5).await, b"older", "a new file is another file");
    assert_eq!(contents(directory, "name").await, b"new");
}

/// The list has every name once.
pub async fn all_names_are_listed<D: Directory>(directory: &D) {
    assert!(names(directory).await.is_empty(), "the directory is not empty");
    let mut expected: Vec<String> = (0..300).map(|number| format!("file-{number}")).collect();
    for name in &expected {
        directory.create(name).await.expect("create");
    }
    expected.sort_unstable();
    assert_eq!(names(directory).await, expected);
    for name in expected.drain(..).step_by(2) {
        directory.remove(&name).await.expect("remove");
    }
    assert_eq!(names(directory).await.len(), 150);
}

/// [`replace`] leaves the new contents under the name, and nothing under the temporary one.
pub async fn a_replaced_file_has_the_new_contents<D: Directory>(directory: &D) {
    for text in [b"first".as_slice(), b"second, longer", b"3"] {
        replace(directory, "temporary", "name", text).await.expect("replace");
        assert_eq!(contents(directory, "name").await, text);
        assert_eq!(names(directory).await, ["name"]);
    }
    create(directory, "temporary", b"of another").await;
    let refused = replace(directory, "temporary", "name", b"4").await;
    assert_kind(refused, io::ErrorKind::AlreadyExists, "a temporary name that is taken");
    assert_eq!(contents(directory, "name").await, b"3", "a failure leaves the old contents");
    assert_eq!(contents(directory, "temporary").await, b"of another");
}
