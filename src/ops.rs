//! What every role answers to those who run it: `/health`, `/ready` and `/metrics`. No key is needed for them.

mod exposition;
pub mod process;
mod ready;

pub use ready::{Checks, Phase};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{IntGaugeVec, Opts, Registry};
use serde_json::json;
use std::sync::Arc;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the routes work with.
pub struct Ops {
    registry: Registry,
    checks: Checks,
}

impl Ops {
    pub fn new(registry: Registry, checks: Checks) -> Result<Self, prometheus::Error> {
        let info =
            IntGaugeVec::new(Opts::new("queryvault_info", "The version that is running"), &["version"])?;
        info.with_label_values(&[VERSION]).set(1);
        registry.register(Box::new(info))?;
        Ok(Self { registry, checks })
    }

    /// What `/ready` is to say of the process itself.
    pub fn set_phase(&self, phase: Phase) {
        self.checks.set_phase(phase);
    }
}

pub fn router(ops: Arc<Ops>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

async fn health() -> Response {
    Json(json!({"status": "ok", "version": VERSION})).into_response()
}

async fn ready(State(ops): State<Arc<Ops>>) -> Response {
    let report = ops.checks.report(&ops.registry).await;
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    let text = exposition::text(ops.registry.gather(), &process::Usage::now());
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
