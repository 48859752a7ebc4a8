//! `GET /api/v1/workspaces`: the workspaces that the key may read.

pub mod aggregations;
pub mod metrics;
pub mod services;
pub mod ws;

use super::while_waiting;
use axum::{Json, extract::State};
use millrace_tenancy::{
    Directory, Workspace,
    http::{ApiError, ApiKey},
};
use serde::Serialize;

#[derive(Serialize)]
pub struct Workspaces {
    workspaces: Vec<Workspace>,
}

pub async fn list(key: ApiKey, State(directory): State<Directory>) -> Result<Json<Workspaces>, ApiError> {
    while_waiting(async {
        let access = key.access(&directory).await?;
        if !access.read {
            return Err(ApiError::forbidden("The key may not read"));
        }
        Ok(Json(Workspaces { workspaces: directory.workspaces(&access).await? }))
    })
    .await
}
