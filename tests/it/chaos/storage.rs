//! Where the archive of a phase lies: a small tmpfs, or a bucket behind a proxy with faults.

use super::{bucket::Bucket, plan::ArchiveKind};
use crate::harness::run;
use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process::Command,
};

/// Much more than an archive of one phase takes.
const DISK: &str = "size=128m";
const BALLAST: &str = "ballast";

pub enum Storage {
    Disk(Disk),
    Bucket(Bucket),
}

pub struct Disk {
    mount: PathBuf,
}

impl Storage {
    pub async fn make(kind: ArchiveKind, folder: &Path, python: &Path) -> Result<Self> {
        Ok(match kind {
            ArchiveKind::Disk => Self::Disk(Disk::mount(folder.join("disk")).await?),
            ArchiveKind::Bucket => Self::Bucket(Bucket::start(folder, python).await?),
        })
    }

    pub fn url(&self) -> String {
        match self {
            Self::Disk(disk) => format!("file://{}", disk.archive().display()),
            Self::Bucket(bucket) => bucket.url(),
        }
    }

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Disk(_) => Vec::new(),
            Self::Bucket(bucket) => bucket.environment(),
        }
    }

    /// Copies the archive into the new folder `to`, and says where in there it is.
    pub async fn download(&self, to: &Path, python: &Path) -> Result<PathBuf> {
        match self {
            Self::Disk(disk) => {
                run("cp", &["-r".to_owned(), disk.archive().display().to_string(), to.display().to_string()])
                    .await?;
                Ok(to.to_owned())
            }
            Self::Bucket(bucket) => bucket.download(to, python).await,
        }
    }

    /// What it has done to those who use it.
    pub fn told(&self) -> String {
        match self {
            Self::Disk(_) => String::new(),
            Self::Bucket(bucket) => format!("{} of the bucket's requests failed", bucket.failed()),
        }
    }
}

impl Disk {
    async fn mount(mount: PathBuf) -> Result<Self> {
        fs::create_dir_all(&mount)?;
        let arguments = ["-t", "tmpfs", "-o", DISK, "tmpfs"].map(str::to_owned);
        let arguments = [&arguments[..], &[mount.display().to_string()]].concat();
        run("mount", &arguments).await.context("a tmpfs for the archive (it needs root)")?;
        Ok(Self { mount })
    }

    /// Until [`Self::free`] nothing more can be written.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.mount.join(BALLAST))?;
        match io::copy(&mut io::repeat(0), &mut file) {
            Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
            other => bail!("the archive's disk does not become full: {other:?}"),
        }
    }

    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.mount.join(BALLAST))
    }

    fn archive(&self) -> PathBuf {
        self.mount.join("archive")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !Command::new("umount").arg("-l").arg(&self.mount).status().is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.mount.display());
        }
    }
}
