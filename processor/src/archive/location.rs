//! Where the archive lies: a folder or a bucket, as its URL says.

use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path,
};
use std::{
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};
use url::Url;

/// The client's own retries are few: the archive retries for ever, with the partitions paused.
const CLIENT_RETRIES: usize = 3;
const CLIENT_RETRY_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the archive URL `{0}` can't be used: write file://FOLDER or s3://BUCKET/PREFIX")]
    Unsupported(String),
    #[error("the folder {} of the archive can't be made", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the archive at `{url}`")]
    Store {
        url: String,
        #[source]
        source: Box<object_store::Error>,
    },
}

/// An object store, and the place of the archive in it.
#[derive(Clone, Debug)]
pub struct Location {
    pub store: Arc<dyn ObjectStore>,
    root: Path,
    /// Where it is a folder of this machine.
    folder: Option<PathBuf>,
}

impl Location {
    pub fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root, folder: None }
    }

    /// Makes the folder where it is one; a bucket is not spoken to yet.
    pub fn open(url: &str) -> Result<Self, Error> {
        match url.strip_prefix("file://") {
            Some(folder) => Self::open_folder(url, folder),
            None if url.contains("://") => Self::open_bucket(url),
            None => Self::open_folder(url, url),
        }
    }

    fn open_folder(url: &str, folder: &str) -> Result<Self, Error> {
        if folder.is_empty() {
            return Err(Error::Unsupported(url.to_owned()));
        }
        let failed = |source| Error::Folder { folder: PathBuf::from(folder), source };
        let folder = std::path::absolute(folder).map_err(failed)?;
        std::fs::create_dir_all(&folder)
            .map_err(|source| Error::Folder { folder: folder.clone(), source })?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(Self::failed(url))?;
        Ok(Self { store: Arc::new(store), root: Path::default(), folder: Some(folder) })
    }

    fn open_bucket(url: &str) -> Result<Self, Error> {
        let unsupported = || Error::Unsupported(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| unsupported())?;
        let Ok((ObjectStoreScheme::AmazonS3, root)) = ObjectStoreScheme::parse(&parsed) else {
            return Err(unsupported());
        };
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: CLIENT_RETRIES,
            retry_timeout: CLIENT_RETRY_LIMIT,
        };
        let store =
            AmazonS3Builder::from_env().with_url(url).with_retry(retry).build().map_err(Self::failed(url))?;
        Ok(Self::new(Arc::new(store), root))
    }

    fn failed(url: &str) -> impl FnOnce(object_store::Error) -> Error {
        let url = url.to_owned();
        move |source| Error::Store { url, source: Box::new(source) }
    }

    /// The object that the archive calls `relative`.
    pub fn path(&self, relative: &str) -> Path {
        self.root.parts().chain(Path::from(relative).parts()).collect()
    }

    /// Makes files and their names survive a loss of power, where that is for us to do: a bucket sees to it itself.
    pub async fn sync(&self, files: Vec<String>) -> Result<(), std::io::Error> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        tokio::task::spawn_blocking(move || files.iter().try_for_each(|file| sync_up(&folder, file)))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }
}

/// The file, and the folders from it up to the archive's, as any of them may be new.
fn sync_up(folder: &FilePath, file: &str) -> Result<(), std::io::Error> {
    let file = folder.join(file);
    file.ancestors()
        .take_while(|path| path.starts_with(folder))
        .try_for_each(|path| std::fs::File::open(path)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_and_may_be_relative() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("a").join("b c");
        let location = Location::open(&format!("file://{}", inner.display())).expect("opens");
        assert!(inner.is_dir());
        assert_eq!(location.path("x/y.parquet").to_string(), "x/y.parquet");
        assert!(Location::open(&inner.display().to_string()).is_ok());
        assert_eq!(std::path::absolute("./x").ok(), std::env::current_dir().ok().map(|here| here.join("x")));
    }

    #[test]
    fn a_bucket_has_a_prefix() {
        let location = Location::open("s3://bucket/some/prefix").expect("opens");
        assert_eq!(location.path("x/y.parquet").to_string(), "some/prefix/x/y.parquet");
    }

    #[test]
    fn other_urls_are_refused_with_what_to_write() {
        for bad in ["file://", "ftp://host/x", "http://[", "memory:///", "s3//://"] {
            let error = Location::open(bad).expect_err(bad).to_string();
            assert!(error.contains(bad) && error.contains("s3://BUCKET"), "{error}");
        }
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = Location::open(&file.path().display().to_string()).expect_err("a file");
        assert!(matches!(error, Error::Folder { .. }), "{error}");
    }
}
