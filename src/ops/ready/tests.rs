use super::*;
use millrace_schemas::topic::Topics;
use prometheus::IntGauge;
use serde_json::json;
use sqlx::postgres::PgPoolOptions;

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

fn nowhere() -> Checks {
    let log = LogSettings {
        brokers: NOWHERE.to_owned(),
        topic_prefix: "test.".to_owned(),
        topic_partitions: 1,
        topic_replication: 1,
        properties: Vec::new(),
    };
    assert_eq!(log.topics(), Topics::with_prefix("test."));
    let pool =
        PgPoolOptions::new().connect_lazy(&format!("postgresql://{NOWHERE}/none")).expect("a valid URL");
    Checks::new(pool, &log).expect("a client needs no broker")
}

#[tokio::test]
async fn what_is_away_is_told_in_time() {
    let checks = nowhere();
    checks.set_phase(Phase::Running);
    let started = Instant::now();
    let report = checks.report(&Registry::new()).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(!report.is_ready());
    let report = serde_json::to_value(&report).expect("it is JSON");
    assert_eq!(report["status"], "not_ready");
    assert_eq!(report["checks"]["database"]["healthy"], false);
    assert_eq!(report["checks"]["log"]["healthy"], false);
    assert_eq!(report["checks"]["roles"], json!({"healthy": true, "message": "Running"}));
    let message = report["checks"]["database"]["message"].as_str().expect("a text");
    assert!(message.starts_with("Connection failed: "), "{message}");
}

#[tokio::test]
async fn an_answer_is_used_again_for_a_while() {
    let checks = nowhere();
    let healthy = Check::healthy("Connected");
    for answer in [&checks.database_answer, &checks.log_answer] {
        *answer.lock().await = Some(Answer { at: Instant::now(), check: healthy.clone() });
    }
    assert_eq!((checks.database().await, checks.log().await), (healthy.clone(), healthy));
    assert_eq!(checks.roles(), Check::unhealthy("Starting"));
}

#[test]
fn one_unhealthy_check_is_enough() {
    let report =
        |healthy| Report::new([("a", Check::healthy("")), ("b", Check { healthy, message: String::new() })]);
    assert!(report(true).is_ready());
    assert!(!report(false).is_ready());
}

#[test]
fn the_buffer_is_what_the_edge_says() {
    let registry = Registry::new();
    assert_eq!(buffer_depth(&registry), 0);
    let gauge = IntGauge::new(BUFFER_DEPTH, "Help").expect("a valid name");
    gauge.set(17);
    registry.register(Box::new(gauge)).expect("new");
    assert_eq!(buffer_depth(&registry), 17);
}
