//! Makes services that first show up in aggregates known, under their id as name.

use millrace_schemas::{ServiceId, WorkspaceId};
use sqlx::PgConnection;
use uuid::Uuid;

/// Nothing is added to a workspace that does not exist (any more).
const REGISTER: &str = "INSERT INTO services (workspace_id, id, name)
     SELECT workspaces.id, t.id, t.id::text
     FROM unnest($1::uuid[], $2::uuid[]) AS t (workspace_id, id)
     JOIN workspaces ON workspaces.id = t.workspace_id
     ORDER BY workspaces.id, t.id
     ON CONFLICT DO NOTHING";

/// `services` are sorted, so that two sinks never wait for each other.
pub async fn register(
    connection: &mut PgConnection,
    services: &[(WorkspaceId, ServiceId)],
) -> Result<(), sqlx::Error> {
    if services.is_empty() {
        return Ok(());
    }
    let (workspaces, ids): (Vec<Uuid>, Vec<Uuid>) =
        services.iter().map(|(workspace, service)| (workspace.0, service.0)).unzip();
    sqlx::query(REGISTER).bind(workspaces).bind(ids).execute(connection).await?;
    Ok(())
}
