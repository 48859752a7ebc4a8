//! The files of a workspace, the last written first, listed folder by folder no further than they are wanted. Layout:
//! `workspace={uuid}/date=YYYY-MM-DD/hour=HH/{topic}-{partition}-{from}-{to}.parquet`.

use super::Error;
use millrace_schemas::{EventTime, WorkspaceId};
use object_store::{ListResult, ObjectMeta, ObjectStore, path::Path};
use std::sync::Arc;
use url::Url;

/// A query that completed at the end of an hour arrived in the next one, so one hour is not enough.
const HOURS_LEAST: usize = 2;

/// Where the archive is.
pub struct Place {
    pub store: Arc<dyn ObjectStore>,
    /// The URL that the store belongs to.
    pub root: Url,
    /// The archive's folder in the store.
    pub folder: Path,
}

/// A walk through the files of a workspace.
pub struct Newest<'a> {
    place: &'a Place,
    /// Folders still to be listed, the next one last.
    folders: Vec<Folder>,
    /// Files listed and not handed out yet, the last written last.
    files: Vec<ObjectMeta>,
    hours_listed: usize,
}

/// A folder, by its level.
enum Folder {
    Workspace(Path),
    Date(Path),
    Hour(Path),
}

impl<'a> Newest<'a> {
    pub fn of(place: &'a Place, workspace: WorkspaceId) -> Self {
        let folder = place.folder.clone().join(format!("workspace={workspace}"));
        Self { place, folders: vec![Folder::Workspace(folder)], files: Vec::new(), hours_listed: 0 }
    }

    /// The URLs of the next files, up to `most`; empty when there are no more.
    pub async fn next(&mut self, most: usize) -> Result<Vec<String>, Error> {
        while self.files.len() < most || self.hours_listed < HOURS_LEAST {
            let Some(folder) = self.folders.pop() else { break };
            self.open(folder).await?;
        }
        let rest = self.files.len() - most.min(self.files.len());
        Ok(self.files.drain(rest..).rev().map(|file| self.place.url(&file.location)).collect())
    }

    /// Whether a file that is listed but not handed out was written at `time` or later: only such a one can hold
    /// records that arrived since.
    pub fn any_written_since(&self, time: EventTime) -> bool {
        self.files.last().is_some_and(|file| EventTime::from(file.last_modified) >= time)
    }

    /// What is in a folder comes before the folders that still wait.
    async fn open(&mut self, folder: Folder) -> Result<(), Error> {
        match folder {
            Folder::Workspace(path) => {
                let dates = subfolders(self.place.list(&path).await?, "date=");
                self.folders.extend(dates.map(Folder::Date));
            }
            Folder::Date(path) => {
                let hours = subfolders(self.place.list(&path).await?, "hour=");
                self.folders.extend(hours.map(Folder::Hour));
            }
            Folder::Hour(path) => {
                self.files.extend(parquet_files(self.place.list(&path).await?));
                self.files.sort_unstable_by(|a, b| {
                    (a.last_modified, &a.location).cmp(&(b.last_modified, &b.location))
                });
                self.hours_listed += 1;
            }
        }
        Ok(())
    }
}

/// In ascending order, as their names sort by time.
fn subfolders(list: ListResult, name: &'static str) -> impl Iterator<Item = Path> {
    let mut folders = list.common_prefixes;
    folders.retain(|folder| folder.filename().is_some_and(|last| last.starts_with(name)));
    folders.sort_unstable();
    folders.into_iter()
}

fn parquet_files(list: ListResult) -> impl Iterator<Item = ObjectMeta> {
    list.objects.into_iter().filter(|file| file.location.extension() == Some("parquet"))
}

impl Place {
    async fn list(&self, folder: &Path) -> Result<ListResult, Error> {
        let listed = self.store.list_with_delimiter(Some(folder)).await;
        listed.map_err(|source| Error::List { folder: folder.to_string(), source })
    }

    fn url(&self, file: &Path) -> String {
        let mut url = self.root.clone();
        url.set_path(file.as_ref());
        url.into()
    }
}
