//! `GET /api/v1/pipeline`: how far the records of each partition of the `metrics` topic have come, stage by stage, and
//! where event time stands and why. It shows nothing of any tenant, so every key that may read may see it.

use super::while_waiting;
use crate::pipeline::{
    Pipeline,
    monitor::{Error, Monitor},
};
use axum::{Json, extract::State};
use millrace_tenancy::{
    Directory,
    http::{ApiError, ApiKey},
};
use std::{sync::Arc, time::Duration};

pub async fn show(
    key: ApiKey,
    State(directory): State<Directory>,
    State(monitor): State<Arc<Monitor>>,
) -> Result<Json<Pipeline>, ApiError> {
    let access = while_waiting(async { key.access(&directory).await }).await?;
    if !access.read {
        return Err(ApiError::forbidden("The key may not read"));
    }
    let pipeline = monitor.look().await.map_err(refused)?;
    Ok(Json(Pipeline::clone(&pipeline)))
}

fn refused(error: Error) -> ApiError {
    match error {
        Error::Groups(_) | Error::NoTopic => {
            ApiError::unavailable("The log is not available", Duration::from_secs(1)).caused_by(error)
        }
        Error::Panicked(_) => ApiError::internal(error),
    }
}
