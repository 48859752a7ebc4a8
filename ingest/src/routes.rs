//! The edge's URLs.

mod metrics;
mod workspaces;

use crate::Edge;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::post,
};

pub fn router(edge: &Edge) -> Router {
    let count = from_fn_with_state(edge.clone(), count_request);
    Router::new()
        .route("/api/v1/metrics/ingest", post(metrics::ingest).layer(count))
        .route("/api/v1/workspaces", post(workspaces::create))
        .route("/api/v1/workspaces/{workspace_id}/services", post(workspaces::create_service))
        .with_state(edge.clone())
}

async fn count_request(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    edge.metrics.count_request(response.status().as_u16());
    response
}

#[cfg(test)]
mod tests;
