//! `POST /api/v1/workspaces` and `POST /api/v1/workspaces/{workspace_id}/services`: get or create by name. Idempotent, so
//! the answer is 200 either way.

use crate::Edge;
use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
};
use millrace_schemas::WorkspaceId;
use millrace_tenancy::{Access, Service, Workspace, http::ApiError};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Named {
    name: String,
}

type NamedBody = Result<Json<Named>, JsonRejection>;

pub async fn create(
    State(edge): State<Edge>,
    access: Access,
    body: NamedBody,
) -> Result<Json<Workspace>, ApiError> {
    if !access.is_admin() {
        return Err(ApiError::forbidden("Only an admin key may create workspaces"));
    }
    let name = name_of(body)?;
    Ok(Json(edge.directory.get_or_create_workspace(&name).await?))
}

pub async fn create_service(
    State(edge): State<Edge>,
    access: Access,
    workspace: Result<Path<WorkspaceId>, PathRejection>,
    body: NamedBody,
) -> Result<Json<Service>, ApiError> {
    let Path(workspace) = workspace.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    if !access.may_administer(workspace) {
        return Err(ApiError::forbidden("Only an admin key of the workspace may create services"));
    }
    let name = name_of(body)?;
    Ok(Json(edge.directory.get_or_create_service(workspace, &name).await?))
}

fn name_of(body: NamedBody) -> Result<String, ApiError> {
    let Json(named) = body.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    Ok(named.name)
}
