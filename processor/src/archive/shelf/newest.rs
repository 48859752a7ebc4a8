//! Finds the newest manifest of a partition among very many, by listing a few of them.

use super::{Shelf, failed};
use crate::archive::{
    Error,
    manifest::Manifest,
    path::{self, Source},
};
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_log::NextOffset;

/// Names read in one go: what the usual stores list in one request.
const PAGE: usize = 1000;

/// Names after an offset, as far as they were read.
struct Page {
    newest: Option<i64>,
    /// There are no others.
    whole: bool,
}

impl Shelf {
    /// The newest manifest of `source`, none of which begins at `end` or later.
    pub async fn newest(&self, source: &Source, end: NextOffset) -> Result<Option<Manifest>, Error> {
        let Some(from) = self.newest_from(source, end).await? else { return Ok(None) };
        self.manifest(source, NextOffset::exclusive(from)).await
    }

    /// Halves the range in which it may be. Stores list names in no promised order, so a page that isn't whole only
    /// tells that there are later ones than any other known.
    pub(super) async fn newest_from(&self, source: &Source, end: NextOffset) -> Result<Option<i64>, Error> {
        let mut page = self.page(source, -1).await?;
        let (mut known, mut beyond) = (page.newest, end.get());
        let mut after;
        while !page.whole {
            let low = known.unwrap_or(-1);
            if beyond - low <= 1 {
                break;
            }
            after = low + (beyond - low) / 2;
            page = self.page(source, after).await?;
            match page.newest {
                Some(newest) => known = known.max(Some(newest)),
                // Nothing after `after`: look again below it.
                None => {
                    beyond = after + 1;
                    page = self.page(source, low).await?;
                    known = known.max(page.newest);
                }
            }
        }
        Ok(known)
    }

    /// The manifests that begin after `after`.
    async fn page(&self, source: &Source, after: i64) -> Result<Page, Error> {
        let folder = source.manifests();
        let store = &self.location.store;
        let listed = match after {
            ..0 => store.list(Some(&self.location.path(&folder))),
            _ => {
                let offset = self.location.path(&source.manifest(NextOffset::exclusive(after)));
                store.list_with_offset(Some(&self.location.path(&folder)), &offset)
            }
        };
        let names: Vec<Option<NextOffset>> = listed
            .take(PAGE + 1)
            .map_ok(|object| object.location.filename().and_then(path::manifest_from))
            .try_collect()
            .await
            .map_err(failed("listing", &folder))?;
        let newest = names.iter().take(PAGE).flatten().map(|from| from.get()).max();
        Ok(Page { newest, whole: names.len() <= PAGE })
    }
}
