use super::*;
use axum::{http::StatusCode, routing::get};
use reqwest::Client;

/// A server without `ops`, and its URL.
async fn start() -> (Server, String) {
    let listener = bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::with_router(listener, Router::new()).expect("it is bound");
    let url = format!("http://{}/service", server.address());
    (server, url)
}

fn service() -> Router {
    Router::new().route("/service", get(|| async { "served" }))
}

#[tokio::test]
async fn before_the_services_run_the_answer_is_503() {
    let (server, url) = start().await;
    let early = Client::new().get(&url).send().await.expect("an answer");
    assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(early.headers()["retry-after"], "1");
    server.open(service());
    let later = Client::new().get(&url).send().await.expect("an answer");
    assert_eq!(later.text().await.expect("a body"), "served");
}

#[tokio::test]
async fn any_origin_may_send_a_key() {
    let (server, url) = start().await;
    server.open(service());
    let preflight = Client::new()
        .request(axum::http::Method::OPTIONS, &url)
        .header("origin", "https://example.org")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let answer = preflight.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert_eq!(answer.headers()["access-control-allow-headers"], "authorization,content-type");
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_end() {
    let (server, url) = start().await;
    let (entered, gate) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (inside, go_on) = (Arc::clone(&entered), Arc::clone(&gate));
    let slow = get(move || async move {
        inside.notify_one();
        go_on.notified().await;
        "served"
    });
    server.open(Router::new().route("/service", slow));
    let stop = server.stop.clone();
    let answer = async { Client::new().get(&url).send().await?.text().await };
    let end = async {
        entered.notified().await;
        stop.cancel();
        gate.notify_one();
    };
    let (answer, ()) = tokio::join!(answer, end);
    assert_eq!(answer.expect("an answer"), "served");
    server.stop().await;
    assert!(Client::new().get(&url).send().await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_remedy() {
    let taken = bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let error = bind(&address).await.expect_err("it is taken");
    assert!(error.to_string().contains(&address) && error.to_string().contains("--listen"), "{error}");
}
