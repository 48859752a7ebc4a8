//! What the archive says about itself. A manifest makes the files of one stretch of a partition part of the archive;
//! each begins where the one before ended, so the newest tells how far the partition is. Pure.

use super::path::Source;
use crate::ledger::Span;
use millrace_log::NextOffset;
use millrace_schemas::EventTime;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::HashSet;

/// The version written; a newer one is refused.
const VERSION: u64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it has version {0}; this build reads up to {VERSION}: upgrade the archive first")]
    Newer(u64),
    #[error("it is not what it should be")]
    Json(#[from] serde_json::Error),
}

/// A data file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Relative to the archive's root.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    pub min_completed_at: EventTime,
    pub max_completed_at: EventTime,
}

/// `[from, to)` of a partition is archived, in these files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u64,
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    /// Those archived: duplicates and dead letters are not.
    pub records: u64,
    pub files: Vec<DataFile>,
    /// What the ledger is told of the stretch; absent in manifests of older builds, which pass over it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ledger: Vec<Span>,
}

/// The files that somebody began to write for `[from, to)`: they count only if a manifest names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub version: u64,
    pub files: Vec<String>,
}

impl Manifest {
    pub fn new(source: &Source, from: NextOffset, to: NextOffset, files: Vec<DataFile>) -> Self {
        Self {
            version: VERSION,
            topic: source.topic.clone(),
            partition: source.partition,
            from: from.get(),
            to: to.get(),
            records: files.iter().map(|file| file.rows).sum(),
            files,
            ledger: Vec::new(),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }

    pub fn next(&self) -> NextOffset {
        NextOffset::exclusive(self.to)
    }

    /// Those of `files` that this manifest has no use for.
    pub fn orphans(&self, files: &[String]) -> Vec<String> {
        let named: HashSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        files.iter().filter(|file| !named.contains(file.as_str())).cloned().collect()
    }
}

impl Attempt {
    pub fn new(files: Vec<String>) -> Self {
        Self { version: VERSION, files }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version > VERSION {
        return Err(Error::Newer(version));
    }
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(paths: &[&str]) -> Manifest {
        let source = Source { topic: "t".to_owned(), partition: 1 };
        let file = |path: &&str| DataFile {
            path: (*path).to_owned(),
            rows: 2,
            bytes: 100,
            min_completed_at: EventTime(0),
            max_completed_at: EventTime(1),
        };
        Manifest::new(&source, NextOffset::START, NextOffset::exclusive(9), paths.iter().map(file).collect())
    }

    #[test]
    fn reads_what_it_wrote() {
        let manifest = manifest(&["a", "b"]);
        let bytes = serde_json::to_vec(&manifest).expect("serializes");
        assert_eq!(Manifest::parse(&bytes).expect("parses"), manifest);
        assert_eq!((manifest.records, manifest.next()), (4, NextOffset::exclusive(9)));
    }

    /// As builds wrote it before there was a ledger: it must be read for ever.
    const GOLDEN: &str = r#"{"version":1,"topic":"t","partition":1,"from":0,"to":9,"records":2,"files":[{"path":"a","rows":2,"bytes":100,"min_completed_at":"1970-01-01T00:00:00Z","max_completed_at":"1970-01-01T00:00:00.000001Z"}]}"#;

    #[test]
    fn reads_and_writes_what_older_builds_wrote() {
        let manifest = manifest(&["a"]);
        assert_eq!(Manifest::parse(GOLDEN.as_bytes()).expect("parses"), manifest);
        assert_eq!(serde_json::to_string(&manifest).expect("serializes"), GOLDEN);
        let told = Manifest { ledger: vec![Span::empty(NextOffset::exclusive(9), None)], ..manifest };
        let bytes = serde_json::to_vec(&told).expect("serializes");
        assert_eq!(Manifest::parse(&bytes).expect("parses"), told);
    }

    /// As version 1 wrote them: archives are kept for years.
    #[test]
    fn the_first_version_is_read() {
        let golden = include_str!("../../golden/manifest-1.json");
        let manifest = Manifest::parse(golden.as_bytes()).expect("parses");
        assert_eq!((manifest.from, manifest.to, manifest.records, manifest.files.len()), (10, 250, 2, 1));
        assert_eq!(serde_json::to_string(&manifest).expect("serializes"), golden);
        let golden = include_str!("../../golden/attempt-1.json");
        let attempt = Attempt::parse(golden.as_bytes()).expect("parses");
        assert_eq!(attempt.files, [manifest.files[0].path.as_str()]);
        assert_eq!(serde_json::to_string(&attempt).expect("serializes"), golden);
    }

    #[test]
    fn a_newer_version_is_refused_whatever_its_shape() {
        let error = Manifest::parse(br#"{"version": 2, "pages": []}"#).expect_err("newer");
        assert_eq!(
            error.to_string(),
            "it has version 2; this build reads up to 1: upgrade the archive first"
        );
        assert!(matches!(error, Error::Newer(2)));
        assert!(matches!(Attempt::parse(br#"{"version": 2}"#), Err(Error::Newer(2))));
        assert!(matches!(Manifest::parse(b"{"), Err(Error::Json(_))));
    }

    #[test]
    fn orphans_are_the_files_it_does_not_name() {
        let files = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(manifest(&["b"]).orphans(&files), ["a", "c"]);
        assert!(manifest(&["a", "b", "c"]).orphans(&files).is_empty());
    }
}
