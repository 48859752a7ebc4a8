//! The URLs, one file each. All want a key that may read the workspace, and answer errors as
//! `{"error": text, "code": status}`.

mod dead_letters;
mod ledger;
mod pipeline;
mod readable;
mod workspaces;

use crate::{
    archive::Archive, feed::Hub, ledger::monitor::LedgerMonitor, meters::Meters, pipeline::monitor::Monitor,
    recent::Recent, tail::Positions,
};
use axum::{
    Router,
    extract::{FromRef, MatchedPath, Query, Request, State, rejection::QueryRejection},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
pub use dead_letters::DeadLetters;
use millrace_tenancy::{Directory, http::ApiError};
use sqlx::PgPool;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
pub use workspaces::aggregations::after::Waits;

/// How long a request waits for the database before it is answered 503.
const DATABASE_LIMIT: Duration = Duration::from_millis(2_500);

/// What the routes work with; cheap to clone.
#[derive(Clone, FromRef)]
pub struct Api {
    pub directory: Directory,
    pub pool: PgPool,
    pub aggregations: Aggregations,
    pub waits: Arc<Waits>,
    pub monitor: Arc<Monitor>,
    pub ledger: Arc<LedgerMonitor>,
    pub dead_letters: Arc<DeadLetters>,
    pub records: Arc<Records>,
    pub live: Arc<Live>,
    pub meters: Meters,
}

/// Limits of the aggregations.
#[derive(Clone, Copy)]
pub struct Aggregations {
    pub rows_max: usize,
}

/// Where recent records come from.
pub struct Records {
    pub recent: Arc<Recent>,
    pub archive: Archive,
    pub positions: Arc<Positions>,
}

/// Where live events come from.
pub struct Live {
    pub hub: Arc<Hub>,
    pub metrics: Arc<Positions>,
    pub aggregates: Arc<Positions>,
    /// Places for sockets.
    pub places: Arc<Semaphore>,
    pub tracker: TaskTracker,
    pub shutdown: CancellationToken,
}

pub fn router(api: Api) -> Router {
    let meters = api.meters.clone();
    Router::new()
        .route("/api/v1/dead-letters", get(dead_letters::list_all))
        .route("/api/v1/dead-letters/replay", post(dead_letters::replay_all))
        .route("/api/v1/ledger", get(ledger::list_all))
        .route("/api/v1/pipeline", get(pipeline::show))
        .route("/api/v1/workspaces", get(workspaces::list))
        .route("/api/v1/workspaces/{workspace_id}/services", get(workspaces::services::list))
        .route("/api/v1/workspaces/{workspace_id}/aggregations", get(workspaces::aggregations::list))
        .route("/api/v1/workspaces/{workspace_id}/dead-letters", get(dead_letters::list))
        .route("/api/v1/workspaces/{workspace_id}/dead-letters/replay", post(dead_letters::replay))
        .route("/api/v1/workspaces/{workspace_id}/ledger", get(ledger::list))
        .route("/api/v1/workspaces/{workspace_id}/metrics", get(workspaces::metrics::list))
        .route("/api/v1/workspaces/{workspace_id}/ws", get(workspaces::ws::connect))
        .route_layer(from_fn_with_state(meters, measure))
        .with_state(api)
}

async fn measure(State(meters): State<Meters>, path: MatchedPath, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let response = next.run(request).await;
    let route = path.as_str();
    meters.requests.with_label_values(&[route, response.status().as_str()]).inc();
    meters.request_seconds.with_label_values(&[route]).observe(started.elapsed().as_secs_f64());
    response
}

/// The parameters of a query string, or why they can't be read.
fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query
        .map(|Query(parameters)| parameters)
        .map_err(|rejection| ApiError::bad_request(rejection.body_text()))
}

/// 503, soon enough for a client that waits.
fn database_away() -> ApiError {
    ApiError::unavailable("The database is not available", Duration::from_secs(1))
}

/// Awaits something that asks the database, but not for long.
async fn while_waiting<T>(step: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(DATABASE_LIMIT, step).await.unwrap_or_else(|_| Err(database_away()))
}

#[cfg(test)]
mod tests;
