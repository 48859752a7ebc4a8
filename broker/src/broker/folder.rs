//! The folder: held by one process at a time, and the cluster's id in it.

use super::{Error, Holder};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};
use uuid::Uuid;

const LOCK: &str = "lock";
const CLUSTER_ID: &str = "cluster-id";

/// The folder, held until this is dropped.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub cluster_id: String,
    _lock: File,
}

impl Folder {
    /// Makes it if need be, and holds it.
    pub fn hold(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(failed(path, "making it"))?;
        let lock = lock(path)?;
        let cluster_id = cluster_id(path).map_err(failed(path, "keeping the cluster's id"))?;
        Ok(Self { path: path.to_owned(), cluster_id, _lock: lock })
    }

    /// A folder in it, made if need be.
    pub fn part(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(failed(&path, "making it"))?;
        Ok(path)
    }
}

fn failed(folder: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let folder = folder.to_owned();
    move |source| Error::Folder { doing, folder, source }
}

/// The lock goes with the process, however it ends; the number in the file is for people.
fn lock(folder: &Path) -> Result<File, Error> {
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(LOCK));
    let mut file = opened.map_err(failed(folder, "writing in it"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let by = Holder(holder(&mut file));
            return Err(Error::InUse { folder: folder.to_owned(), by });
        }
        Err(TryLockError::Error(source)) => return Err(failed(folder, "locking it")(source)),
    }
    sign(&mut file).map_err(failed(folder, "writing in it"))?;
    Ok(file)
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Made once, and kept: clients notice when they talk to another cluster under the same address.
fn cluster_id(folder: &Path) -> io::Result<String> {
    let path = folder.join(CLUSTER_ID);
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = Uuid::new_v4().simple().to_string();
    let fresh = folder.join("cluster-id.new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_keeps_its_id_and_a_second_holder_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Folder::hold(folder.path()).expect("it is free");
        let refused = Folder::hold(folder.path()).expect_err("it is held").to_string();
        assert!(refused.contains(&folder.path().display().to_string()), "{refused}");
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        let id = first.cluster_id.clone();
        drop(first);
        assert_eq!(Folder::hold(folder.path()).expect("it is free again").cluster_id, id);
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        File::create(&file).expect("a file");
        let refused = Folder::hold(&file).expect_err("it is a file").to_string();
        assert!(refused.contains("file"), "{refused}");
    }
}
