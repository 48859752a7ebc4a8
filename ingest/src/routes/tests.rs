//! The routes with a log that does as it is told, and a directory that knows its keys without a database.

mod requests;
mod workspaces;

use crate::{
    Edge, Settings,
    delivery::Delivery,
    events::{
        Parsed,
        tests::{OTHER, OWN},
    },
    kafka::Log,
};
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use millrace_schemas::token::Origin;
use millrace_tenancy::{Access, Directory};
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::ServiceExt;

const INGEST: &str = "/api/v1/metrics/ingest";
const WRITER: Access = Access { workspace: Some(OWN), ingest: true, read: true, admin: false };
const READER: Access = Access { workspace: Some(OWN), ingest: false, read: true, admin: false };
const ADMIN: Access = Access { workspace: None, ingest: true, read: true, admin: true };

/// Acknowledges the first so many records of each request; the others fail, or are never heard of.
struct ScriptedLog {
    acknowledged: usize,
    silent: bool,
    keys: Mutex<Vec<String>>,
    unheard: Mutex<Vec<Arc<Delivery>>>,
}

impl Log for ScriptedLog {
    fn append(&self, parsed: &Parsed, delivery: &Arc<Delivery>) {
        for (index, (record, _)) in parsed.records().enumerate() {
            let key = millrace_schemas::key::record_key(record.workspace, record.service);
            self.keys.lock().expect("the keys").push(key);
            if index < self.acknowledged {
                delivery.acknowledge(0, i64::try_from(index).expect("small"));
            } else if self.silent {
                self.unheard.lock().expect("the deliveries").push(Arc::clone(delivery));
            } else {
                delivery.fail(1, Some("told to fail".to_owned()));
            }
        }
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin::of("cluster", "topic"))
    }

    fn waiting(&self) -> i64 {
        i64::try_from(self.unheard.lock().expect("the deliveries").len()).expect("a small number")
    }

    fn reachable(&self) -> bool {
        true
    }

    fn flush(&self, _: Duration) -> bool {
        self.waiting() == 0
    }
}

/// An edge under test.
struct Subject {
    edge: Edge,
    log: Arc<ScriptedLog>,
    registry: Registry,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Subject {
    fn new(settings: Settings, acknowledged: usize, silent: bool) -> Self {
        let log = ScriptedLog { acknowledged, silent, keys: Mutex::default(), unheard: Mutex::default() };
        let (log, registry) = (Arc::new(log), Registry::new());
        let keys =
            [("writer", Some(WRITER)), ("reader", Some(READER)), ("admin", Some(ADMIN)), ("made up", None)];
        let directory = Directory::without_database(&keys, &[OWN]);
        let edge = Edge::with_log(settings, log.clone(), directory, &registry).expect("valid settings");
        Self { edge, log, registry }
    }

    /// With a log that takes everything.
    fn with_settings(settings: Settings) -> Self {
        Self::new(settings, usize::MAX, false)
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.edge.router().oneshot(request).await.expect("a router always answers");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a short body");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Posts JSON with the writer's key.
    async fn ingest(&self, body: &Value) -> Answer {
        self.send(post(INGEST, "writer", body.to_string())).await
    }

    /// The value of a series, as `/metrics` writes it.
    fn metric(&self, series: &str) -> Option<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("writes to memory");
        let text = String::from_utf8(text).expect("UTF-8");
        text.lines().find_map(|line| line.strip_prefix(series)).map(|value| value.trim().to_owned())
    }
}

fn post(path: &str, key: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("Authorization", format!("Bearer {key}"));
    request.header("Content-Type", "application/json").body(body.into()).expect("a request")
}
