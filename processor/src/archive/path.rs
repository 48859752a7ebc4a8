//! The names in the archive, relative to its root. Pure.
//!
//! `workspace=U/date=D/hour=H/T-P-F-T.parquet` the data, `_manifests/T/P/F.json` how far a partition is, and
//! `_attempts/T/P/F-T.json` what is being written (U workspace, D date and H hour of `completed_at` in UTC, T topic,
//! P partition, F first and T next offset).

use chrono::{DateTime, Utc};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, WorkspaceId};

const HOUR_MICROS: i64 = 3_600_000_000;

/// What shares a data file: one workspace in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    pub workspace: WorkspaceId,
    /// Hours since the epoch.
    hour: i64,
}

impl Group {
    pub fn new(workspace: WorkspaceId, completed_at: EventTime) -> Self {
        Self { workspace, hour: completed_at.as_micros().div_euclid(HOUR_MICROS) }
    }

    fn folder(self) -> String {
        let start = EventTime(self.hour.saturating_mul(HOUR_MICROS));
        format!("{}/{}", workspace_folder(self.workspace), hour_folder(start))
    }
}

pub fn workspace_folder(workspace: WorkspaceId) -> String {
    format!("workspace={workspace}")
}

/// `date=D/hour=H`: of two the later one is the greater as text.
pub fn hour_folder(time: EventTime) -> String {
    DateTime::<Utc>::from(time).format("date=%Y-%m-%d/hour=%H").to_string()
}

/// One partition of the raw topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub topic: String,
    pub partition: i32,
}

impl Source {
    pub fn data(&self, group: Group, from: NextOffset, to: NextOffset) -> String {
        let Self { topic, partition } = self;
        format!("{}/{topic}-{partition}-{:020}-{:020}.parquet", group.folder(), from.get(), to.get())
    }

    pub fn manifests(&self) -> String {
        format!("_manifests/{}/{:05}", self.topic, self.partition)
    }

    pub fn manifest(&self, from: NextOffset) -> String {
        format!("{}/{:020}.json", self.manifests(), from.get())
    }

    pub fn attempts(&self) -> String {
        format!("_attempts/{}/{:05}", self.topic, self.partition)
    }

    pub fn attempt(&self, from: NextOffset, to: NextOffset) -> String {
        format!("{}/{:020}-{:020}.json", self.attempts(), from.get(), to.get())
    }
}

/// The partition and the `from` in the name of a data file of `topic`.
pub fn data_from(file_name: &str, topic: &str) -> Option<(i32, NextOffset)> {
    let rest = file_name.strip_prefix(topic)?.strip_prefix('-')?.strip_suffix(".parquet")?;
    let (partition, range) = rest.split_once('-')?;
    let (from, _) = range.split_once('-')?;
    Some((partition.parse().ok()?, NextOffset::exclusive(from.parse().ok()?)))
}

/// The `from` in the name of a manifest.
pub fn manifest_from(file_name: &str) -> Option<NextOffset> {
    file_name.strip_suffix(".json")?.parse().ok().map(NextOffset::exclusive)
}

/// The `from` and `to` in the name of an attempt.
pub fn attempt_range(file_name: &str) -> Option<(NextOffset, NextOffset)> {
    let (from, to) = file_name.strip_suffix(".json")?.split_once('-')?;
    Some((NextOffset::exclusive(from.parse().ok()?), NextOffset::exclusive(to.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn names_tell_what_is_inside() {
        let source = Source { topic: "he.metrics".to_owned(), partition: 3 };
        let group = Group::new(
            WorkspaceId(Uuid::from_u128(7)),
            EventTime::parse("2026-01-09T23:59:59.9Z").expect("a time"),
        );
        let (from, to) = (NextOffset::exclusive(10), NextOffset::exclusive(250));
        assert_eq!(
            source.data(group, from, to),
            "workspace=00000000-0000-0000-0000-000000000007/date=2026-01-09/hour=23/he.metrics-3-00000000000000000010-00000000000000000250.parquet"
        );
        let name = "he.metrics-3-00000000000000000010-00000000000000000250.parquet";
        assert_eq!(data_from(name, "he.metrics"), Some((3, from)));
        assert_eq!((data_from(name, "he.metric"), data_from(name, "he")), (None, None));
        assert_eq!(source.manifest(from), "_manifests/he.metrics/00003/00000000000000000010.json");
        assert_eq!(manifest_from("00000000000000000010.json"), Some(from));
        assert_eq!(
            source.attempt(from, to),
            "_attempts/he.metrics/00003/00000000000000000010-00000000000000000250.json"
        );
        assert_eq!(attempt_range("00000000000000000010-00000000000000000250.json"), Some((from, to)));
        assert_eq!((manifest_from("x.json"), attempt_range("1.json")), (None, None));
    }

    #[test]
    fn times_before_the_epoch_have_hours_too() {
        let group = |micros| Group::new(WorkspaceId(Uuid::nil()), EventTime(micros)).folder();
        assert!(group(-1).ends_with("date=1969-12-31/hour=23"));
        assert!(group(0).ends_with("date=1970-01-01/hour=00"));
    }
}
