//! What `--dev` adds: a workspace, a service and two keys that everyone knows. Never in production.

use crate::{
    Error,
    database::{QUERY_LIMIT, within},
    directory::sha256,
};
use millrace_schemas::{ServiceId, WorkspaceId};
use sqlx::PgPool;
use uuid::uuid;

/// The development workspace.
pub const WORKSPACE: WorkspaceId = WorkspaceId(uuid!("550e8400-e29b-41d4-a716-446655440000"));
/// Its service.
pub const SERVICE: ServiceId = ServiceId(uuid!("550e8400-e29b-41d4-a716-446655440001"));
/// May write and read the development workspace.
pub const WORKSPACE_KEY: &str = "test-api-key-12345";
/// May do everything in every workspace.
pub const ADMIN_KEY: &str = "dev-admin-key";

const ADD_WORKSPACE: &str =
    "INSERT INTO workspaces (id, name) VALUES ($1, 'development') ON CONFLICT DO NOTHING";
const ADD_SERVICE: &str =
    "INSERT INTO services (workspace_id, id, name) VALUES ($1, $2, 'development') ON CONFLICT DO NOTHING";
const ADD_KEY: &str = "INSERT INTO api_keys (key_sha256, workspace_id, name, scopes) VALUES ($1, $2, $3, $4)
    ON CONFLICT (key_sha256) DO NOTHING";

/// Adds what is missing of it; may be run again, and by several processes at once.
pub async fn seed_development(pool: &PgPool) -> Result<(), Error> {
    within(QUERY_LIMIT, "adding the development workspace and keys", add(pool)).await
}

async fn add(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query(ADD_WORKSPACE).bind(WORKSPACE.0).execute(&mut *transaction).await?;
    sqlx::query(ADD_SERVICE).bind(WORKSPACE.0).bind(SERVICE.0).execute(&mut *transaction).await?;
    let keys = [
        (WORKSPACE_KEY, Some(WORKSPACE.0), "development", vec!["ingest", "read"]),
        (ADMIN_KEY, None, "development administrator", vec!["ingest", "read", "admin"]),
    ];
    for (key, workspace, name, scopes) in keys {
        let add = sqlx::query(ADD_KEY).bind(sha256(key).to_vec()).bind(workspace).bind(name).bind(scopes);
        add.execute(&mut *transaction).await?;
    }
    transaction.commit().await
}
