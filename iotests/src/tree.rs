//! All that is in a folder, to see whether anything has changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The names in a folder and below it, with what each of them is.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Node>);

/// What a name stands for. Reading it changes nothing here, so the time of access is left out.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    inode: u64,
    mode: u32,
    names: u64,
    length: u64,
    modified: (i64, i64),
    /// Of the bytes of a file and where they are, or of the target of a link.
    contents: u64,
}

impl Tree {
    /// All in `folder`, and the folder itself.
    ///
    /// # Panics
    ///
    /// If a part of it cannot be read.
    pub fn of(folder: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        let mut left = vec![folder.to_owned()];
        while let Some(path) = left.pop() {
            let metadata = fs::symlink_metadata(&path).expect("it was listed");
            if metadata.is_dir() {
                let entries = fs::read_dir(&path).expect("a folder");
                left.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            let node = Node {
                inode: metadata.ino(),
                mode: metadata.mode(),
                names: metadata.nlink(),
                length: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                contents: contents(&path, &metadata),
            };
            nodes.insert(path, node);
        }
        Self(nodes)
    }

    /// The names that stand for something else in `other`, or in one of both only.
    pub fn changed<'a>(&'a self, other: &'a Self) -> Vec<&'a Path> {
        let names = self.0.keys().chain(other.0.keys().filter(|name| !self.0.contains_key(*name)));
        let is_changed = |name: &&PathBuf| self.0.get(*name) != other.0.get(*name);
        names.filter(is_changed).map(PathBuf::as_path).collect()
    }
}

fn contents(path: &Path, metadata: &fs::Metadata) -> u64 {
    let mut hasher = DefaultHasher::new();
    if metadata.is_symlink() {
        hasher.write(fs::read_link(path).expect("a link").as_os_str().as_bytes());
    } else if metadata.is_file() {
        hash_data(&File::open(path).expect("a file"), &mut hasher);
    }
    hasher.finish()
}

/// Hashes what is not in holes: a file of 8 EiB may have next to nothing.
fn hash_data(file: &File, hasher: &mut DefaultHasher) {
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        offset = match seek(file, SeekFrom::Data(offset)) {
            Ok(found) => found,
            Err(Errno::NXIO) => return,
            Err(errno) => panic!("a file can be searched: {errno}"),
        };
        let length = file.read_at(&mut buffer, offset).expect("a file can be read");
        hasher.write_u64(offset);
        hasher.write(&buffer[..length]);
        offset += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    use super::*;

    /// What changed in a folder with `file` and `link`, by what `change` does to it.
    fn changed_by(change: impl FnOnce(&Path)) -> Vec<PathBuf> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::create(folder.path().join("file")).expect("a new file");
        file.set_len(1 << 40).expect("a sparse file");
        file.write_all_at(b"text", 1 << 39).expect("a byte in the midst");
        symlink("file", folder.path().join("link")).expect("a new link");
        // Long before the change: the times of files have a tick of several milliseconds.
        let opened = File::open(folder.path()).expect("a folder");
        opened.set_modified(SystemTime::UNIX_EPOCH).expect("our folder");
        let before = Tree::of(folder.path());
        change(folder.path());
        let after = Tree::of(folder.path());
        let relative = |name: &Path| name.strip_prefix(folder.path()).expect("in it").to_owned();
        before.changed(&after).into_iter().map(relative).collect()
    }

    #[test]
    fn what_stays_is_not_changed() {
        assert!(changed_by(|folder| drop(fs::read(folder.join("link/../x")))).is_empty());
    }

    #[test]
    fn every_change_is_seen() {
        let file = |folder: &Path| File::options().write(true).open(folder.join("file")).unwrap();
        let keep_time = |file: &File, change: &dyn Fn(&File)| {
            let modified = file.metadata().unwrap().modified().unwrap();
            change(file);
            file.set_modified(modified).unwrap();
        };
        let byte = |folder: &Path| {
            keep_time(&file(folder), &|file| file.write_all_at(b"T", 1 << 39).unwrap());
        };
        assert_eq!(changed_by(byte), [Path::new("file")]);
        let cut = |folder: &Path| {
            keep_time(&file(folder), &|file| file.set_len(1 << 41).unwrap());
        };
        assert_eq!(changed_by(cut), [Path::new("file")]);
        let touch = |folder: &Path| {
            file(folder)
                .set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1))
                .unwrap();
        };
        assert_eq!(changed_by(touch), [Path::new("file")]);
        let come_and_go = |folder: &Path| {
            fs::write(folder.join("new"), "").unwrap();
            fs::remove_file(folder.join("new")).unwrap();
        };
        assert_eq!(changed_by(come_and_go), [Path::new("")], "the folder was written to");
        let add = |folder: &Path| fs::write(folder.join("new"), "").unwrap();
        assert_eq!(changed_by(add), [Path::new(""), Path::new("new")]);
    }
}
