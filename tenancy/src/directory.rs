//! The directory of keys, workspaces and services: answers from small caches, and from PostgreSQL behind them.
//! While the database is away, what was known lately still holds.

mod names;
mod sql;

use crate::{
    Access, Error, Service, Workspace,
    cache::{Cache, Found, Limits},
    database::{QUERY_LIMIT, within},
};
use millrace_schemas::{EventTime, WorkspaceId};
use sha2::{Digest, Sha256};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// A revoked key works for `fresh_for` at most; while the database is away, for `usable_for`.
const KEYS: Limits =
    Limits { capacity: 10_000, fresh_for: Duration::from_secs(30), usable_for: Duration::from_secs(3600) };
const UNKNOWN_KEYS: Limits =
    Limits { capacity: 10_000, fresh_for: Duration::from_secs(2), usable_for: Duration::from_secs(2) };
const WORKSPACES: Limits =
    Limits { capacity: 100_000, fresh_for: Duration::from_secs(60), usable_for: Duration::from_secs(3600) };
const UNKNOWN_WORKSPACES: Limits =
    Limits { capacity: 100_000, fresh_for: Duration::from_secs(1), usable_for: Duration::from_secs(1) };

/// How long a refresh may take while there is an older answer to fall back on.
const REFRESH_LIMIT: Duration = Duration::from_millis(500);
/// After a failed refresh the older answer is used this long before the next try.
const REFRESH_PAUSE: Duration = Duration::from_secs(3);
/// Lookups of keys and workspaces at once: a flood of made-up ones must not take every connection.
const LOOKUPS_MAX: usize = 4;
/// Ids asked for in one query.
const IDS_PER_QUERY: usize = 10_000;

/// Cheap to clone: the clones share the pool and the caches.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

struct Shared {
    pool: PgPool,
    caches: Mutex<Caches>,
    lookups: Semaphore,
    is_away: AtomicBool,
}

/// The unit values only say that an id is there.
struct Caches {
    keys: Cache<[u8; 32], Access>,
    unknown_keys: Cache<[u8; 32], ()>,
    workspaces: Cache<WorkspaceId, ()>,
    unknown_workspaces: Cache<WorkspaceId, ()>,
}

impl Directory {
    pub fn new(pool: PgPool) -> Self {
        let caches = Caches {
            keys: Cache::new(KEYS),
            unknown_keys: Cache::new(UNKNOWN_KEYS),
            workspaces: Cache::new(WORKSPACES),
            unknown_workspaces: Cache::new(UNKNOWN_WORKSPACES),
        };
        let lookups = Semaphore::new(LOOKUPS_MAX);
        Self {
            shared: Arc::new(Shared {
                pool,
                caches: Mutex::new(caches),
                lookups,
                is_away: AtomicBool::new(false),
            }),
        }
    }

    /// Has these answers in its caches, for about a second, and no database behind them: for tests of what asks a
    /// directory. `None` is a key that nobody has.
    #[doc(hidden)]
    pub fn without_database(keys: &[(&str, Option<Access>)], workspaces: &[WorkspaceId]) -> Self {
        // Nothing listens on port 1.
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1);
        let pool =
            PgPoolOptions::new().acquire_timeout(Duration::from_millis(100)).connect_lazy_with(options);
        let directory = Self::new(pool);
        for (key, access) in keys {
            directory.remember_key(sha256(key), *access);
        }
        directory.remember_workspaces(workspaces, &workspaces.iter().copied().collect());
        directory
    }

    /// What `key` opens; `None` for a key that nobody has.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Access>, Error> {
        let digest = sha256(key);
        let stale = match self.cached_key(&digest) {
            Found::Fresh(access) => return Ok(access),
            Found::Stale(access) => access,
            Found::Nothing => None,
        };
        let limit = if stale.is_some() { REFRESH_LIMIT } else { QUERY_LIMIT };
        match self.lookup(limit, "looking up a key", sql::access_of_key(&self.shared.pool, &digest)).await {
            Ok(found) => {
                self.remember_key(digest, found);
                Ok(found)
            }
            Err(error) if stale.is_some() && error.is_transient() => {
                self.lost(&error);
                Ok(stale)
            }
            Err(error) => Err(error),
        }
    }

    /// Those of `ids` that exist.
    pub async fn known(&self, ids: &[WorkspaceId]) -> Result<HashSet<WorkspaceId>, Error> {
        let (mut known, unsure) = self.cached_workspaces(ids);
        for chunk in unsure.missing.chunks(IDS_PER_QUERY) {
            known.extend(self.look_up_workspaces(chunk, QUERY_LIMIT).await?);
        }
        for chunk in unsure.stale.chunks(IDS_PER_QUERY) {
            match self.look_up_workspaces(chunk, REFRESH_LIMIT).await {
                Ok(found) => known.extend(found),
                Err(error) if error.is_transient() => {
                    self.lost(&error);
                    known.extend(chunk);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    /// When those of `ids` that exist were created, to the millisecond. No cache answers: that a workspace does not exist
    /// must not have been found out before the record came that names it.
    pub async fn created(&self, ids: &[WorkspaceId]) -> Result<HashMap<WorkspaceId, EventTime>, Error> {
        let mut created = HashMap::new();
        for chunk in ids.chunks(IDS_PER_QUERY) {
            let query = sql::created(&self.shared.pool, chunk);
            created.extend(self.lookup(QUERY_LIMIT, "asking when workspaces were created", query).await?);
        }
        Ok(created)
    }

    /// The workspaces that `access` may read, by name; 10,000 at most.
    pub async fn workspaces(&self, access: &Access) -> Result<Vec<Workspace>, Error> {
        if !access.read {
            return Ok(Vec::new());
        }
        self.ask("listing the workspaces", sql::workspaces(&self.shared.pool, access.workspace)).await
    }

    /// The services of a workspace, by name; 10,000 at most.
    pub async fn services(&self, id: WorkspaceId) -> Result<Vec<Service>, Error> {
        self.ask("listing the services", sql::services(&self.shared.pool, id)).await
    }

    /// The workspace that has this name: 1 to 255 characters.
    pub async fn get_or_create_workspace(&self, name: &str) -> Result<Workspace, Error> {
        names::validate("workspace", name, 1)?;
        let doing = "getting or creating a workspace";
        let workspace = self.ask(doing, sql::get_or_create_workspace(&self.shared.pool, name)).await?;
        self.remember_workspaces(&[workspace.id], &HashSet::from([workspace.id]));
        Ok(workspace)
    }

    /// The service of the workspace that has this name: at most 255 characters, and none is a name too.
    pub async fn get_or_create_service(&self, workspace: WorkspaceId, name: &str) -> Result<Service, Error> {
        names::validate("service", name, 0)?;
        let doing = "getting or creating a service";
        match self.ask(doing, sql::get_or_create_service(&self.shared.pool, workspace, name)).await {
            Err(Error::Database { source: sqlx::Error::Database(error), .. })
                if error.is_foreign_key_violation() =>
            {
                Err(Error::UnknownWorkspace(workspace))
            }
            result => result,
        }
    }

    async fn ask<T>(
        &self,
        doing: &'static str,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        within(QUERY_LIMIT, doing, query).await
    }

    /// Asks when it is this lookup's turn; the wait is part of the limit.
    async fn lookup<T>(
        &self,
        limit: Duration,
        doing: &'static str,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        let in_turn = async {
            let _turn = self.shared.lookups.acquire().await.expect("the semaphore is never closed");
            query.await
        };
        let answer = within(limit, doing, in_turn).await;
        if answer.is_ok() && self.shared.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!("the directory's database answers again");
        }
        answer
    }

    /// Said once, not for each key.
    fn lost(&self, error: &Error) {
        if !self.shared.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "keys and workspaces can't be checked again; what was known before still holds");
        }
    }

    async fn look_up_workspaces(
        &self,
        ids: &[WorkspaceId],
        limit: Duration,
    ) -> Result<HashSet<WorkspaceId>, Error> {
        let found =
            self.lookup(limit, "looking up workspaces", sql::existing(&self.shared.pool, ids)).await?;
        self.remember_workspaces(ids, &found);
        Ok(found)
    }

    fn cached_key(&self, digest: &[u8; 32]) -> Found<Option<Access>> {
        let now = Instant::now();
        let mut caches = self.caches();
        match caches.keys.claim(digest, now, REFRESH_PAUSE) {
            Found::Fresh(access) => Found::Fresh(Some(access)),
            Found::Stale(access) => Found::Stale(Some(access)),
            Found::Nothing => match caches.unknown_keys.get(digest, now) {
                Found::Fresh(()) => Found::Fresh(None),
                Found::Stale(()) | Found::Nothing => Found::Nothing,
            },
        }
    }

    fn remember_key(&self, digest: [u8; 32], found: Option<Access>) {
        let now = Instant::now();
        let mut caches = self.caches();
        match found {
            Some(access) => caches.keys.put(digest, access, now),
            None => {
                caches.keys.remove(&digest);
                caches.unknown_keys.put(digest, (), now);
            }
        }
    }

    /// The ids that are surely known, and those to ask for.
    fn cached_workspaces(&self, ids: &[WorkspaceId]) -> (HashSet<WorkspaceId>, Unsure) {
        let now = Instant::now();
        let mut caches = self.caches();
        let mut known = HashSet::new();
        let mut unsure = Unsure::default();
        for id in ids {
            match caches.workspaces.claim(id, now, REFRESH_PAUSE) {
                Found::Fresh(()) => {
                    known.insert(*id);
                }
                Found::Stale(()) => unsure.stale.push(*id),
                Found::Nothing if caches.unknown_workspaces.get(id, now) == Found::Fresh(()) => {}
                Found::Nothing => unsure.missing.push(*id),
            }
        }
        (known, unsure)
    }

    fn remember_workspaces(&self, asked: &[WorkspaceId], found: &HashSet<WorkspaceId>) {
        let now = Instant::now();
        let mut caches = self.caches();
        for id in asked {
            if found.contains(id) {
                caches.unknown_workspaces.remove(id);
                caches.workspaces.put(*id, (), now);
            } else {
                caches.workspaces.remove(id);
                caches.unknown_workspaces.put(*id, (), now);
            }
        }
    }

    fn caches(&self) -> MutexGuard<'_, Caches> {
        self.shared.caches.lock().expect("no code panics while it holds the caches")
    }
}

/// Ids that the caches have no fresh answer for.
#[derive(Default)]
struct Unsure {
    stale: Vec<WorkspaceId>,
    missing: Vec<WorkspaceId>,
}

/// Keys are stored and compared as this; they are long and random, so no slow hash is needed.
pub fn sha256(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests;
