use super::*;
use axum::{Json, Router, extract::State, http::HeaderMap, response::IntoResponse, routing::post};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::{net::TcpListener, task::JoinSet};

type Calls = Arc<AtomicU32>;

/// Answers 503 once, then takes the batch.
async fn busy_once(
    State(calls): State<Calls>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> impl IntoResponse {
    assert_eq!(headers[header::AUTHORIZATION], "Bearer key");
    if calls.fetch_add(1, Ordering::SeqCst) == 0 {
        let busy = Json(json!({"error": "busy", "code": 503}));
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], busy).into_response();
    }
    let taken = body["metrics"].as_array().map_or(0, Vec::len);
    (StatusCode::ACCEPTED, Json(json!({"ingested": taken, "dropped": 0}))).into_response()
}

/// None of the events is valid.
async fn drop_all() -> impl IntoResponse {
    let errors = json!([{"index": 0, "id": "1", "field": "completed_at", "message": "in the future"}]);
    let body = json!({"error": "None is valid", "code": 422, "ingested": 0, "dropped": 1, "errors": errors});
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body))
}

async fn refuse() -> impl IntoResponse {
    (StatusCode::FORBIDDEN, Json(json!({"error": "not with this key", "code": 403})))
}

async fn always_busy() -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// The server runs until the set is dropped.
async fn start(route: axum::routing::MethodRouter<Calls>, path: &str) -> (Edge, Calls, JoinSet<()>) {
    let calls = Calls::default();
    let app = Router::new().route(path, route).with_state(Arc::clone(&calls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.expect("serves") });
    let url = url.parse().expect("a URL");
    (Edge::new(&url, "key", &CancellationToken::new()).expect("a client"), calls, server)
}

#[tokio::test]
async fn a_busy_edge_is_asked_again() {
    let (edge, calls, _server) = start(post(busy_once), "/api/v1/metrics/ingest").await;
    let answer = edge.ingest(&[]).await.expect("taken at the second try");
    assert_eq!(answer, Ingested::default());
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn events_that_are_not_valid_are_dropped_but_nothing_stops() {
    let (edge, _, _server) = start(post(drop_all), "/api/v1/metrics/ingest").await;
    let answer = edge.ingest(&[]).await.expect("an answer");
    assert_eq!((answer.ingested, answer.dropped), (0, 1));
    assert_eq!(answer.errors[0].field, "completed_at");
}

#[tokio::test]
async fn a_refusal_stops_with_the_edges_words() {
    let (edge, _, _server) = start(post(refuse), "/api/v1/workspaces").await;
    let error = edge.get_or_create("/api/v1/workspaces", "shop").await.expect_err("refused");
    assert!(
        error.to_string().ends_with("/api/v1/workspaces answered 403 Forbidden: not with this key"),
        "{error}"
    );
}

#[tokio::test]
async fn a_shutdown_ends_the_waiting() {
    let (edge, _, _server) = start(post(always_busy), "/api/v1/metrics/ingest").await;
    edge.shutdown.cancel();
    assert!(matches!(edge.ingest(&[]).await, Err(EdgeError::Interrupted(_))));
}

#[test]
fn foreign_answers_are_shown_shortened() {
    assert_eq!(message(b"<html>"), "<html>");
    assert_eq!(message(&[b'x'; 1000]).len(), SHOWN_CHARS_MAX);
}
