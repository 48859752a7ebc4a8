//! Answers that need no services: a database that is away is one of them.

use super::*;
use crate::{QueryService, Settings, service::Components, settings::ArchiveLocation};
use axum::{
    body::{Body, to_bytes},
    http::{Request as HttpRequest, StatusCode, header},
};
use clap::Parser;
use millrace_log::LogSettings;
use prometheus::Registry;
use sqlx::postgres::PgPoolOptions;
use tower::ServiceExt;

const WORKSPACE: &str = "/api/v1/workspaces/550e8400-e29b-41d4-a716-446655440000";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    log: LogSettings,
}

struct World {
    service: QueryService,
    registry: Registry,
    _folder: tempfile::TempDir,
}

/// A service with nothing behind it: nobody listens on port 1.
fn world() -> World {
    let cli = Cli::try_parse_from(["query", "--kafka-brokers", "127.0.0.1:1"]).expect("valid settings");
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(200));
    let pool = pool.connect_lazy("postgresql://nobody@127.0.0.1:1/nothing").expect("a lazy pool");
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::new();
    let components = Components {
        log: cli.log,
        directory: Directory::new(pool.clone()),
        pool,
        archive: ArchiveLocation::parse(&folder.path().to_string_lossy()).expect("a path"),
        registry: registry.clone(),
    };
    let service = QueryService::start(&cli.settings, components, &CancellationToken::new()).expect("starts");
    World { service, registry, _folder: folder }
}

/// Status, `Retry-After` and body.
async fn get(world: &World, path: &str, key: Option<&str>) -> String {
    let mut request = HttpRequest::builder().uri(path);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, key);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = world.service.router().oneshot(request).await.expect("infallible");
    let retry = response.headers().get(header::RETRY_AFTER).cloned();
    let status: StatusCode = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    format!("{} {:?} {}", status.as_u16(), retry, String::from_utf8_lossy(&body))
}

#[tokio::test]
async fn every_route_wants_a_key() {
    let world = world();
    let missing = r#"401 None {"code":401,"error":"Missing Authorization header"}"#;
    let paths = ["/services", "/aggregations", "/metrics", "/ws", "/dead-letters", "/ledger"];
    let paths = paths.map(|route| format!("{WORKSPACE}{route}"));
    let others = ["/api/v1/workspaces", "/api/v1/pipeline", "/api/v1/dead-letters", "/api/v1/ledger"];
    for path in paths.iter().map(String::as_str).chain(others) {
        assert_eq!(get(&world, path, None).await, missing, "{path}");
        assert_eq!(get(&world, path, Some("bearer key")).await, missing, "{path}");
    }
    for path in [format!("{WORKSPACE}/dead-letters/replay"), "/api/v1/dead-letters/replay".to_owned()] {
        let order = HttpRequest::post(path).header(header::CONTENT_TYPE, "application/json");
        let order = order.body(Body::from(r#"{"filter":{}}"#)).expect("a request");
        let response = world.service.router().oneshot(order).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    let path = format!("{WORKSPACE}/metrics?api_key=key");
    assert_eq!(get(&world, &path, None).await, missing, "only a socket takes the key from the URL");
    world.service.close().await;
}

#[tokio::test]
async fn an_absent_database_is_503_with_a_time_to_retry() {
    let world = world();
    let path = format!("{WORKSPACE}/aggregations");
    insta::assert_snapshot!(
        get(&world, &path, Some("Bearer key")).await,
        @r#"503 Some("1") {"code":503,"error":"The database is not available"}"#
    );
    let counted = world.registry.gather().iter().any(|family| {
        family.name() == "millrace_query_requests_total"
            && family
                .get_metric()
                .iter()
                .any(|metric| metric.get_label().iter().any(|label| label.value() == "503"))
    });
    assert!(counted, "requests are counted by route and status");
    assert!(!world.service.readiness().is_ready(), "no broker has answered");
    world.service.close().await;
}

#[test]
fn a_bad_workspace_id_is_named() {
    let error = readable::parse("42").expect_err("not a UUID");
    assert_eq!(
        (error.status(), error.message()),
        (StatusCode::BAD_REQUEST, "Invalid workspace id '42': not a UUID")
    );
    assert!(readable::parse("{550e8400-e29b-41d4-a716-446655440000}").is_ok());
}
