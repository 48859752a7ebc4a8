//! Finds and reads what was archived: by the folders of its hours, so that the rest of the archive is not looked at.

use super::{
    Shelf, failed,
    whole::{Lacks, present},
};
use crate::archive::{
    Error,
    columns::{Archived, archived},
    manifest::DataFile,
    path::{self, Source},
};
use futures::TryStreamExt as _;
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, WorkspaceId};
use parquet::{
    arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    errors::ParquetError,
};
use std::collections::BTreeSet;

/// Rows decoded at once.
const BATCH_ROWS: usize = 8_192;

/// What is looked for: records of `[from, to)`, of one workspace or of all.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub from: EventTime,
    pub to: EventTime,
    pub workspace: Option<WorkspaceId>,
}

impl Wanted {
    fn overlaps(&self, file: &DataFile) -> bool {
        let of_workspace = self.workspace.is_none_or(|workspace| {
            file.path.starts_with(&format!("{}/", path::workspace_folder(workspace)))
        });
        of_workspace && file.min_completed_at < self.to && file.max_completed_at >= self.from
    }

    /// The first and the last folder of an hour.
    fn hours(&self) -> (String, String) {
        (path::hour_folder(self.from), path::hour_folder(EventTime(self.to.0 - 1)))
    }
}

impl Shelf {
    /// The data files of `topic` that hold such records and were archived before `archived` (by partition), by time.
    /// Files that no manifest names are none of the archive; what is missing of it is an error. No record came before
    /// `arrived_from`.
    pub async fn files(
        &self,
        topic: &str,
        wanted: Wanted,
        (archived, arrived_from): (&[NextOffset], EventTime),
    ) -> Result<Vec<DataFile>, Error> {
        let mut listed = BTreeSet::new();
        for folder in self.workspaces(wanted.workspace).await? {
            listed.extend(self.in_hours(&folder, wanted).await?);
        }
        let (mut files, mut lacks) = (Vec::new(), Lacks::default());
        for (partition, to) in (0..).zip(archived).filter(|(_, to)| **to > NextOffset::START) {
            let source = Source { topic: topic.to_owned(), partition };
            let mut named = self.checked(&source, (arrived_from, *to), &mut lacks).await?;
            named.files.extend(self.named_before(&source, named.from, &listed).await?);
            named.files.retain(|file| wanted.overlaps(file));
            files.extend(present(named.files, &listed, &mut lacks));
        }
        if !lacks.0.is_empty() {
            return Err(Error::Incomplete(lacks));
        }
        files.sort_unstable_by(|a, b| (a.min_completed_at, &a.path).cmp(&(b.min_completed_at, &b.path)));
        Ok(files)
    }

    /// What the manifests of listed files name that begin before this offset: the rules may have let records in that were
    /// further ahead.
    async fn named_before(
        &self,
        source: &Source,
        before: i64,
        listed: &BTreeSet<String>,
    ) -> Result<Vec<DataFile>, Error> {
        let begin = |path: &String| {
            let name = path.rsplit_once('/').map_or("", |(_, name)| name);
            let (partition, from) = path::data_from(name, &source.topic)?;
            (partition == source.partition && from.get() < before).then_some(from)
        };
        let begins: BTreeSet<NextOffset> = listed.iter().filter_map(begin).collect();
        let mut files = Vec::new();
        for begin in begins {
            files.extend(self.manifest(source, begin).await?.into_iter().flat_map(|manifest| manifest.files));
        }
        Ok(files)
    }

    /// Where the manifests of a partition begin, ascending: all of them, eight bytes each.
    pub async fn begins(&self, source: &Source) -> Result<Vec<i64>, Error> {
        let names = self.file_names(&source.manifests()).await?;
        let mut begins: Vec<i64> =
            names.iter().filter_map(|name| path::manifest_from(name)).map(NextOffset::get).collect();
        begins.sort_unstable();
        Ok(begins)
    }

    async fn workspaces(&self, workspace: Option<WorkspaceId>) -> Result<Vec<String>, Error> {
        match workspace {
            Some(workspace) => Ok(vec![path::workspace_folder(workspace)]),
            None => Ok(self.folders("").await?.into_iter().filter(|f| f.starts_with("workspace=")).collect()),
        }
    }

    /// The data files of a workspace's folder, relative to the archive's root.
    async fn in_hours(&self, folder: &str, wanted: Wanted) -> Result<Vec<String>, Error> {
        let (first, last) = wanted.hours();
        let day = |hour: &str| hour.split('/').next().unwrap_or_default().to_owned();
        let (first_day, last_day) = (day(&first), day(&last));
        let mut files = Vec::new();
        for date in self.folders(folder).await? {
            if date < first_day || date > last_day {
                continue;
            }
            let dated = format!("{folder}/{date}");
            let objects = self.location.store.list(Some(&self.location.path(&dated)));
            let objects: Vec<_> = objects.try_collect().await.map_err(failed("listing", &dated))?;
            for object in objects {
                let parts: Vec<_> = object.location.parts().collect();
                let [.., hour, name] = parts.as_slice() else { continue };
                let hour = format!("{date}/{}", hour.as_ref());
                if hour >= first && hour <= last {
                    files.push(format!("{folder}/{hour}/{}", name.as_ref()));
                }
            }
        }
        Ok(files)
    }

    /// The names of the folders in a folder.
    async fn folders(&self, folder: &str) -> Result<Vec<String>, Error> {
        let listed = self.location.store.list_with_delimiter(Some(&self.location.path(folder))).await;
        let listed = listed.map_err(failed("listing", folder))?;
        let names = listed.common_prefixes.iter();
        Ok(names.filter_map(|path| path.parts().next_back().map(|name| name.as_ref().to_owned())).collect())
    }

    /// The records of a data file, in batches. The file is held in memory: chunks bound its size.
    pub async fn records(
        &self,
        path: &str,
    ) -> Result<impl Iterator<Item = Result<Vec<Archived>, Error>> + use<>, Error> {
        let bytes = self.read(path).await?.ok_or_else(|| Error::Missing(path.to_owned()))?;
        let path = path.to_owned();
        let decode = move |source: ParquetError| Error::Decode { path: path.clone(), source };
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(&decode)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), Archived::COLUMNS);
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(&decode)?;
        Ok(reader.map(move |batch| {
            let batch = batch.map_err(|error| decode(error.into()))?;
            let other = || ParquetError::General("a column is not as this build writes it".to_owned());
            archived(&batch).ok_or_else(|| decode(other()))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{
        chunk::{
            Chunk, Row,
            tests::{add, metric, row},
        },
        location::Location,
        shelf::whole::Lack,
    };
    use crate::record::Texts;
    use object_store::{memory::InMemory, path::Path};
    use std::{sync::Arc, time::Instant};

    const HOUR: i64 = 3_600_000_000;

    fn hours(from: i64, to: i64) -> Wanted {
        Wanted { from: EventTime(from * HOUR), to: EventTime(to * HOUR), workspace: None }
    }

    async fn archive() -> Shelf {
        let shelf = Shelf::new(Location::new(Arc::new(InMemory::new()), Path::from("a/prefix")));
        for partition in 0..2 {
            let mut chunk = Chunk::new(NextOffset::START);
            for offset in 0_i64..96 {
                // Half an hour after one another; two workspaces.
                let workspace = u128::from(offset.unsigned_abs() % 2 + 1);
                add(&mut chunk, (workspace, offset * 1_800, offset), Instant::now());
            }
            let source = Source { topic: "t".to_owned(), partition };
            shelf.write(&source, &mut chunk).await.expect("writes");
        }
        shelf
    }

    async fn offsets(shelf: &Shelf, wanted: Wanted, archived: &[i64]) -> Vec<i64> {
        let archived: Vec<_> = archived.iter().map(|next| NextOffset::exclusive(*next)).collect();
        let mut offsets = Vec::new();
        for file in shelf.files("t", wanted, (&archived, EventTime(0))).await.expect("lists") {
            for batch in shelf.records(&file.path).await.expect("opens") {
                offsets.extend(batch.expect("reads").iter().map(|record| record.offset));
            }
        }
        offsets.sort_unstable();
        offsets
    }

    #[tokio::test]
    async fn only_the_files_of_the_hours_and_the_workspace_are_read() {
        let shelf = archive().await;
        let base = metric(1, 0, 0).completed_at.0.div_euclid(HOUR);
        assert_eq!(offsets(&shelf, hours(base, base + 1), &[96, 96]).await, [0, 0, 1, 1]);
        assert_eq!(offsets(&shelf, hours(base + 30, base + 32), &[96, 0]).await, [60, 61, 62, 63]);
        let one = Wanted { workspace: Some(metric(1, 0, 0).workspace_id), ..hours(base, base + 24) };
        let found = offsets(&shelf, one, &[96, 0]).await;
        assert_eq!(found, (0..48).filter(|offset| offset % 2 == 0).collect::<Vec<i64>>());
        assert!(offsets(&shelf, hours(base + 100, base + 101), &[96, 96]).await.is_empty());
    }

    async fn lacks(shelf: &Shelf, wanted: Wanted, arrived_from: EventTime) -> Lacks {
        let archived = [NextOffset::exclusive(96), NextOffset::START];
        match shelf.files("t", wanted, (&archived, arrived_from)).await {
            Err(Error::Incomplete(lacks)) => lacks,
            other => other.map(|_| Lacks::default()).expect("it is whole or it is not"),
        }
    }

    /// Files in a folder of their own, which nothing but the manifest tells of.
    #[tokio::test]
    async fn a_file_that_is_gone_is_told_with_its_records() {
        let shelf = archive().await;
        let all = hours(-1_000_000, 1_000_000);
        let archived = [NextOffset::exclusive(96)];
        let files = shelf.files("t", all, (&archived, EventTime(0))).await.expect("lists");
        shelf.remove(&files[3].path).await.expect("removes");
        let gone = Lack::File { path: files[3].path.clone(), records: files[3].rows };
        assert_eq!(lacks(&shelf, all, EventTime(0)).await, Lacks(vec![gone.clone()]));
        let hour = files[3].min_completed_at.0.div_euclid(HOUR);
        assert_eq!(lacks(&shelf, hours(hour, hour + 1), EventTime(0)).await, Lacks(vec![gone]));
        assert_eq!(lacks(&shelf, hours(hour + 1, hour + 2), EventTime(0)).await, Lacks::default());
    }

    /// Three manifests of 96 records; their records came at 100 s, 200 s and 300 s.
    async fn three() -> Shelf {
        let shelf = Shelf::new(Location::new(Arc::new(InMemory::new()), Path::from("a")));
        let source = Source { topic: "t".to_owned(), partition: 0 };
        for (number, from) in (1..).zip([0, 32, 64]) {
            let mut chunk = Chunk::new(NextOffset::exclusive(from));
            for offset in from..from + 32 {
                let mut texts = Texts::default();
                let row = row(&metric(1, offset * 1_800, offset), offset, &mut texts);
                chunk.add(
                    Row { ingest_time: EventTime(number * 100_000_000), ..row },
                    &texts,
                    Instant::now(),
                );
            }
            shelf.write(&source, &mut chunk).await.expect("writes");
        }
        shelf
    }

    #[tokio::test]
    async fn a_manifest_that_is_gone_is_told_unless_what_it_had_came_too_early() {
        let source = Source { topic: "t".to_owned(), partition: 0 };
        let all = hours(-1_000_000, 1_000_000);
        for (from, to, seen_until) in [(0, 32, 199), (32, 64, 299), (64, 96, 1_000)] {
            let shelf = three().await;
            assert_eq!(lacks(&shelf, all, EventTime(0)).await, Lacks::default());
            shelf.remove(&source.manifest(NextOffset::exclusive(from))).await.expect("removes");
            let gone = Lacks(vec![Lack::Manifest { partition: 0, from, to }]);
            assert_eq!(lacks(&shelf, all, EventTime(0)).await, gone);
            assert_eq!(lacks(&shelf, all, EventTime(seen_until * 1_000_000)).await, gone, "{from}");
            let said = Error::Incomplete(gone).to_string();
            assert!(said.contains(&format!("partition 0 from offset {from} to {to}")), "{said}");
        }
        let shelf = three().await;
        shelf.remove(&source.manifest(NextOffset::START)).await.expect("removes");
        assert_eq!(lacks(&shelf, all, EventTime(301_000_000)).await, Lacks::default());
    }
}
