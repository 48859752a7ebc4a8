//! The directory's SQL statements.

use crate::{Access, Service, Workspace};
use millrace_schemas::{EventTime, ServiceId, WorkspaceId};
use sqlx::PgPool;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

const ACCESS_OF_KEY: &str = "SELECT workspace_id, scopes FROM api_keys WHERE key_sha256 = $1";
const EXISTING: &str = "SELECT id FROM workspaces WHERE id = ANY($1)";
/// Whole milliseconds, rounded down, as the log's times are.
const CREATED: &str =
    "SELECT id, floor(extract(epoch FROM created_at) * 1000)::bigint FROM workspaces WHERE id = ANY($1)";
const WORKSPACES: &str =
    "SELECT id, name FROM workspaces WHERE $1::uuid IS NULL OR id = $1 ORDER BY name, id LIMIT 10000";
const SERVICES: &str = "SELECT id, name FROM services WHERE workspace_id = $1 ORDER BY name, id LIMIT 10000";
const WORKSPACE_NAMED: &str = "SELECT id, name FROM workspaces WHERE name = $1";
const ADD_WORKSPACE: &str = "INSERT INTO workspaces (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
const SERVICE_NAMED: &str = "SELECT id, name FROM services WHERE workspace_id = $1 AND name = $2";
const ADD_SERVICE: &str =
    "INSERT INTO services (workspace_id, name) VALUES ($1, $2) ON CONFLICT (workspace_id, name) DO NOTHING";

type Row = (Uuid, String);

pub async fn access_of_key(pool: &PgPool, digest: &[u8; 32]) -> Result<Option<Access>, sqlx::Error> {
    let query = sqlx::query_as::<_, (Option<Uuid>, Vec<String>)>(ACCESS_OF_KEY).bind(digest.as_slice());
    let row = query.fetch_optional(pool).await?;
    Ok(row.map(|(workspace, scopes)| {
        let has = |scope: &str| scopes.iter().any(|found| found == scope);
        Access {
            workspace: workspace.map(WorkspaceId),
            ingest: has("ingest"),
            read: has("read"),
            admin: has("admin"),
        }
    }))
}

pub async fn existing(pool: &PgPool, ids: &[WorkspaceId]) -> Result<HashSet<WorkspaceId>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<(Uuid,)> = sqlx::query_as(EXISTING).bind(ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(id,)| WorkspaceId(id)).collect())
}

pub async fn created(
    pool: &PgPool,
    ids: &[WorkspaceId],
) -> Result<HashMap<WorkspaceId, EventTime>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(CREATED).bind(ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(id, ms)| (WorkspaceId(id), EventTime::from_millis(ms))).collect())
}

/// All of them, or only the one.
pub async fn workspaces(pool: &PgPool, only: Option<WorkspaceId>) -> Result<Vec<Workspace>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(WORKSPACES).bind(only.map(|id| id.0)).fetch_all(pool).await?;
    Ok(rows.into_iter().map(to_workspace).collect())
}

pub async fn services(pool: &PgPool, workspace: WorkspaceId) -> Result<Vec<Service>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(SERVICES).bind(workspace.0).fetch_all(pool).await?;
    Ok(rows.into_iter().map(to_service).collect())
}

pub async fn get_or_create_workspace(pool: &PgPool, name: &str) -> Result<Workspace, sqlx::Error> {
    if let Some(row) = sqlx::query_as(WORKSPACE_NAMED).bind(name).fetch_optional(pool).await? {
        return Ok(to_workspace(row));
    }
    sqlx::query(ADD_WORKSPACE).bind(name).execute(pool).await?;
    // Read again, not RETURNING: another process may have been first, and its id is the one.
    sqlx::query_as(WORKSPACE_NAMED).bind(name).fetch_one(pool).await.map(to_workspace)
}

pub async fn get_or_create_service(
    pool: &PgPool,
    workspace: WorkspaceId,
    name: &str,
) -> Result<Service, sqlx::Error> {
    let named = || sqlx::query_as::<_, Row>(SERVICE_NAMED).bind(workspace.0).bind(name);
    if let Some(row) = named().fetch_optional(pool).await? {
        return Ok(to_service(row));
    }
    sqlx::query(ADD_SERVICE).bind(workspace.0).bind(name).execute(pool).await?;
    named().fetch_one(pool).await.map(to_service)
}

fn to_workspace((id, name): Row) -> Workspace {
    Workspace { id: WorkspaceId(id), name }
}

fn to_service((id, name): Row) -> Service {
    Service { id: ServiceId(id), name }
}
