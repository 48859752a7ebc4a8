//! Posting events: every status, and what it says.

use super::*;
use crate::events::tests::event;
use millrace_schemas::CommitToken;
use serde_json::json;

fn two_events() -> Value {
    json!({"metrics": [event(1, OWN), event(2, OWN)]})
}

fn assert_error(answer: &Answer, status: StatusCode, text: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.body["code"], status.as_u16());
    let error = answer.body["error"].as_str().expect("a text");
    assert!(error.contains(text), "{error}");
}

fn ndjson(body: String, encoding: Option<&str>) -> Request<Body> {
    let mut request =
        Request::post(INGEST).header("X-API-Key", "writer").header("Content-Type", "application/x-ndjson");
    if let Some(encoding) = encoding {
        request = request.header("Content-Encoding", encoding);
    }
    request.body(Body::from(body)).expect("a request")
}

#[tokio::test]
async fn acknowledged_events_are_202() {
    let subject = Subject::with_settings(Settings::default());
    let answer = subject.ingest(&two_events()).await;
    let token = CommitToken { origin: Origin::of("cluster", "topic"), next: [(0, 2)].into() }.encode();
    let expected = json!({"ingested": 2, "dropped": 0, "token": token});
    assert_eq!((answer.status, answer.body), (StatusCode::ACCEPTED, expected));
    let key = format!("{OWN}/00000000-0000-0000-0000-000000000009");
    assert_eq!(*subject.log.keys.lock().expect("the keys"), [key.clone(), key]);
    let empty = subject.ingest(&json!({"metrics": []})).await;
    assert_eq!((empty.status, empty.body), (StatusCode::ACCEPTED, json!({"ingested": 0, "dropped": 0})));
    assert_eq!(subject.metric("millrace_ingest_requests_total{code=\"202\"}").as_deref(), Some("2"));
    assert_eq!(subject.metric("millrace_ingest_events_total{outcome=\"accepted\"}").as_deref(), Some("2"));
    assert_eq!(subject.metric("queryvault_metrics_ingested_total").as_deref(), Some("2"));
    assert_eq!(subject.metric("millrace_ingest_in_flight_bytes").as_deref(), Some("0"));
}

#[tokio::test]
async fn the_key_comes_before_the_body() {
    let subject = Subject::with_settings(Settings::default());
    let no_key = Request::post(INGEST).body(Body::from("not JSON")).expect("a request");
    assert_error(&subject.send(no_key).await, StatusCode::UNAUTHORIZED, "Missing Authorization header");
    let answer = subject.send(post(INGEST, "made up", "not JSON")).await;
    assert_error(&answer, StatusCode::UNAUTHORIZED, "Invalid API key");
    let answer = subject.send(post(INGEST, "reader", "not JSON")).await;
    assert_error(&answer, StatusCode::FORBIDDEN, "may not ingest");
    let answer = subject.send(post(INGEST, "writer", "not JSON")).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "line 1 column 2");
    let answer = subject.send(post(INGEST, "never seen", "{}")).await;
    assert_error(&answer, StatusCode::SERVICE_UNAVAILABLE, "database");
}

#[tokio::test]
async fn good_events_pass_and_bad_ones_are_named() {
    let subject = Subject::with_settings(Settings::default());
    let mut bad = event(2, OWN);
    bad["duration_ms"] = json!(-1);
    let answer = subject.ingest(&json!({"metrics": [event(1, OWN), bad, event(3, OTHER)]})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!((&answer.body["ingested"], &answer.body["dropped"]), (&json!(1), &json!(2)));
    let fields: Vec<_> =
        answer.body["errors"].as_array().expect("errors").iter().map(|e| &e["field"]).collect();
    assert_eq!(fields, ["duration_ms", "workspace_id"]);
    assert_eq!(answer.body["errors"][0]["id"], "00000000-0000-0000-0000-000000000002");
    assert_eq!(subject.metric("queryvault_metrics_dropped_total").as_deref(), Some("2"));
}

#[tokio::test]
async fn when_all_are_bad_the_request_is() {
    let subject = Subject::with_settings(Settings::default());
    let answer = subject.ingest(&json!({"metrics": [7]})).await;
    assert_error(&answer, StatusCode::UNPROCESSABLE_ENTITY, "None of the 1 events");
    assert_eq!(answer.body["errors"][0]["message"], "an event must be a JSON object");
    let answer = subject.ingest(&json!({"metrics": [event(1, OTHER)]})).await;
    assert_error(&answer, StatusCode::FORBIDDEN, "workspace");
    assert_error(&subject.ingest(&json!([])).await, StatusCode::UNPROCESSABLE_ENTITY, "`metrics`");
    assert!(subject.log.keys.lock().expect("the keys").is_empty());
}

#[tokio::test]
async fn an_admin_key_writes_any_workspace_that_exists() {
    let subject = Subject::with_settings(Settings::default());
    let body = json!({"metrics": [event(1, OWN)]}).to_string();
    assert_eq!(subject.send(post(INGEST, "admin", body)).await.status, StatusCode::ACCEPTED);
    // Nobody can say whether the other exists: it is neither taken nor refused.
    let body = json!({"metrics": [event(1, OTHER)]}).to_string();
    assert_eq!(subject.send(post(INGEST, "admin", body)).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn lines_may_come_compressed() {
    let subject = Subject::with_settings(Settings::default());
    let lines = format!("{}\n{}\n", event(1, OWN), event(2, OWN));
    assert_eq!(subject.send(ndjson(lines.clone(), None)).await.body["ingested"], 2);
    let packed = zstd::encode_all(lines.as_bytes(), 1).expect("packs");
    let mut request = ndjson(String::new(), Some("zstd"));
    *request.body_mut() = Body::from(packed);
    assert_eq!(subject.send(request).await.body["ingested"], 2);
    let answer = subject.send(ndjson(lines.clone(), Some("gzip"))).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "Content-Encoding");
    let answer = subject.send(ndjson(lines, Some("br"))).await;
    assert_error(&answer, StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding");
}

#[tokio::test]
async fn another_method_or_type_is_refused() {
    let subject = Subject::with_settings(Settings::default());
    let get = Request::get(INGEST).body(Body::empty()).expect("a request");
    assert_eq!(subject.send(get).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let mut text = post(INGEST, "writer", "x");
    text.headers_mut().insert("Content-Type", "text/plain".parse().expect("a value"));
    assert_error(&subject.send(text).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type");
    assert_eq!(subject.metric("millrace_ingest_requests_total{code=\"405\"}").as_deref(), Some("1"));
}

#[tokio::test]
async fn sizes_are_limited() {
    let settings = Settings { body_bytes_max: 2000, events_max: 3, ..Settings::default() };
    let subject = Subject::with_settings(settings);
    let large = json!({"metrics": [], "padding": "x".repeat(2000)});
    assert_error(&subject.ingest(&large).await, StatusCode::PAYLOAD_TOO_LARGE, "2000 bytes");
    let many = json!({"metrics": [0, 0, 0, 0]});
    assert_error(&subject.ingest(&many).await, StatusCode::PAYLOAD_TOO_LARGE, "4 events");
    let bomb = zstd::encode_all("\n".repeat(100_000).as_bytes(), 3).expect("packs");
    assert!(bomb.len() < 2000);
    let mut request = ndjson(String::new(), Some("zstd"));
    *request.body_mut() = Body::from(bomb);
    assert_error(&subject.send(request).await, StatusCode::PAYLOAD_TOO_LARGE, "2000 bytes");
}

#[tokio::test]
async fn what_the_log_does_not_acknowledge_is_503_and_says_so() {
    let subject = Subject::new(Settings::default(), 1, false);
    let mut body = two_events();
    body["metrics"].as_array_mut().expect("an array").push(json!(7));
    let answer = subject.ingest(&body).await;
    assert_error(&answer, StatusCode::SERVICE_UNAVAILABLE, "1 of 2 events");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!((&answer.body["ingested"], &answer.body["unacknowledged"]), (&json!(1), &json!(1)));
    assert_eq!(answer.body["errors"][0]["index"], 2);
    assert_eq!(
        subject.metric("millrace_ingest_events_total{outcome=\"unacknowledged\"}").as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn a_silent_log_is_not_waited_for_and_its_bytes_stay_in_flight() {
    let body = two_events();
    let settings = Settings {
        delivery_timeout_ms: 100,
        body_bytes_max: 1024,
        in_flight_bytes_max: 1500,
        ..Settings::default()
    };
    let subject = Subject::new(settings, 0, true);
    assert_error(&subject.ingest(&body).await, StatusCode::SERVICE_UNAVAILABLE, "0 of 2 events");
    assert_eq!(subject.metric("queryvault_buffer_depth").as_deref(), Some("2"));
    let in_flight = body.to_string().len().to_string();
    assert_eq!(subject.metric("millrace_ingest_in_flight_bytes"), Some(in_flight));
    assert_error(&subject.ingest(&body).await, StatusCode::SERVICE_UNAVAILABLE, "0 of 2 events");
    assert_error(&subject.ingest(&body).await, StatusCode::SERVICE_UNAVAILABLE, "Too much is in flight");
    let unheard = std::mem::take(&mut *subject.log.unheard.lock().expect("the deliveries"));
    unheard.iter().for_each(|delivery| delivery.acknowledge(0, 0));
    drop(unheard);
    assert_eq!(subject.metric("millrace_ingest_in_flight_bytes").as_deref(), Some("0"));
    assert_eq!(subject.metric("millrace_ingest_events_total{outcome=\"accepted\"}").as_deref(), Some("4"));
}

#[tokio::test]
async fn requests_in_flight_are_limited() {
    let subject = Subject::with_settings(Settings { requests_max: 1, ..Settings::default() });
    let busy = subject.edge.requests.reserve(1).expect("the only one");
    let answer = subject.ingest(&two_events()).await;
    assert_error(&answer, StatusCode::SERVICE_UNAVAILABLE, "Too much is in flight");
    assert_eq!(answer.headers["retry-after"], "1");
    drop(busy);
    assert_eq!(subject.ingest(&two_events()).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_key_that_sends_too_much_must_wait() {
    let subject = Subject::with_settings(Settings { key_events_per_s: 1, ..Settings::default() });
    let many: Vec<Value> = (0..60).map(|number| event(number, OWN)).collect();
    assert_eq!(subject.ingest(&json!({ "metrics": many })).await.status, StatusCode::ACCEPTED);
    let answer = subject.ingest(&two_events()).await;
    assert_error(&answer, StatusCode::TOO_MANY_REQUESTS, "more events than it may");
    let wait_s: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("whole seconds");
    assert!((1..=60).contains(&wait_s));
    let body = two_events().to_string();
    assert_eq!(subject.send(post(INGEST, "admin", body)).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_closed_edge_takes_nothing() {
    let subject = Subject::with_settings(Settings::default());
    subject.edge.close().await;
    assert_error(&subject.ingest(&two_events()).await, StatusCode::SERVICE_UNAVAILABLE, "shutting down");
}
