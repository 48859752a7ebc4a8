//! The client against librdkafka's own mock of a cluster, which can be told to fail.

use super::*;
use crate::{
    admission::Budget,
    content::Format,
    events::{Rules, parse, tests},
    metrics::Metrics,
};
use millrace_schemas::EventTime;
use millrace_tenancy::Access;
use prometheus::Registry;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

const TIMEOUT: Duration = Duration::from_millis(1500);
/// For what must happen, far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("test.metrics", 3, 1).expect("a topic");
    cluster
}

fn connect(cluster: &MockCluster<'static, DefaultProducerContext>) -> KafkaLog {
    connect_with(cluster, TIMEOUT)
}

fn connect_with(cluster: &MockCluster<'static, DefaultProducerContext>, timeout: Duration) -> KafkaLog {
    let settings = LogSettings {
        brokers: cluster.bootstrap_servers(),
        topic_prefix: "test.".to_owned(),
        topic_partitions: 3,
        topic_replication: 1,
        properties: Vec::new(),
    };
    KafkaLog::connect(&settings, timeout, Accepted::new().expect("a valid name")).expect("a client")
}

fn three_records() -> Parsed {
    let access = Access { workspace: None, ingest: true, read: false, admin: false };
    let now = EventTime::parse("2026-01-10T00:00:00Z").expect("a time");
    let rules = Rules { access, now, future_skew: Duration::ZERO, events_max: 10 };
    let lines: Vec<String> = (0..3).map(|number| tests::event(number, tests::OWN).to_string()).collect();
    parse(Format::Lines, lines.join("\n").as_bytes(), &rules).expect("three events")
}

/// How many of three records were acknowledged, when there is an answer for all.
async fn acknowledged(log: &KafkaLog) -> usize {
    let metrics = Arc::new(Metrics::register(&Registry::new()).expect("a new registry"));
    let delivery = Delivery::new(3, metrics, Budget::new(0).reserve(0).expect("nothing is always there"));
    log.append(&three_records(), &delivery);
    tokio::time::timeout(PATIENCE, delivery.settled()).await.expect("an answer for each record");
    let outcome = delivery.outcome();
    let located: i64 = outcome.next.into_iter().flat_map(std::collections::BTreeMap::into_values).sum();
    assert!(outcome.acknowledged == 0 || (located > 0 && log.origin().is_some()), "it says where they are");
    outcome.acknowledged
}

#[tokio::test]
async fn a_broker_that_was_away_is_used_again() {
    let cluster = cluster();
    let log = connect(&cluster);
    assert_eq!(acknowledged(&log).await, 3);
    cluster.broker_down(1).expect("the mock obeys");
    assert_eq!(acknowledged(&log).await, 0);
    assert!(!log.reachable());
    cluster.broker_up(1).expect("the mock obeys");
    let recovered = async { while acknowledged(&log).await < 3 {} };
    tokio::time::timeout(PATIENCE, recovered).await.expect("the same producer recovers");
    assert!(log.reachable());
    assert!(log.flush(PATIENCE) && log.waiting() == 0);
}

#[tokio::test]
async fn a_broken_producer_is_replaced() {
    let cluster = cluster();
    let log = connect(&cluster);
    assert_eq!(acknowledged(&log).await, 3);
    let lost_sequence = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[lost_sequence]);
    let first = Arc::downgrade(&log.current());
    assert_eq!(acknowledged(&log).await, 0);
    assert_eq!(acknowledged(&log).await, 3, "a new producer takes over");
    assert!(!std::ptr::eq(first.as_ptr(), Arc::as_ptr(&log.current())));
}

#[tokio::test]
async fn a_producer_that_stands_still_is_replaced() {
    let cluster = cluster();
    let log = connect_with(&cluster, Duration::from_millis(100));
    let first = Arc::downgrade(&log.current());
    cluster.broker_down(1).expect("the mock obeys");
    let replaced = async {
        while std::ptr::eq(first.as_ptr(), Arc::as_ptr(&log.current())) {
            assert_eq!(acknowledged(&log).await, 0);
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.expect("another producer");
    cluster.broker_up(1).expect("the mock obeys");
    let recovered = async { while acknowledged(&log).await < 3 {} };
    tokio::time::timeout(PATIENCE, recovered).await.expect("it takes records");
}

#[test]
fn a_key_is_written_once_for_neighbours() {
    let mut keys = Keys::default();
    let service = ServiceId(tests::OWN.0);
    let first = keys.of(tests::OWN, service).to_owned();
    assert_eq!(first, record_key(tests::OWN, service));
    assert_eq!(keys.of(tests::OWN, service), first);
    assert_eq!(keys.of(tests::OTHER, service), record_key(tests::OTHER, service));
}
