//! `GET /api/v1/workspaces/{workspace_id}/services`: names for the ids in the other answers.

use crate::routes::{readable::Readable, while_waiting};
use axum::{Json, extract::State};
use millrace_schemas::WorkspaceId;
use millrace_tenancy::{Directory, Service, http::ApiError};
use serde::Serialize;

#[derive(Serialize)]
pub struct Services {
    workspace_id: WorkspaceId,
    services: Vec<Service>,
}

pub async fn list(
    Readable(workspace_id): Readable,
    State(directory): State<Directory>,
) -> Result<Json<Services>, ApiError> {
    let services = while_waiting(async { Ok(directory.services(workspace_id).await?) }).await?;
    Ok(Json(Services { workspace_id, services }))
}
