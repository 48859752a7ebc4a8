//! Temporary: helper E's trial of sink and archive.
#![allow(clippy::all, clippy::unwrap_used, clippy::print_stdout, clippy::too_many_lines, clippy::disallowed_methods, reason = "temporary")]
use clap::Parser;
use millrace_processor::{aggregate, archive::*, sink, sketch::Sketch};
use millrace_schemas::{aggregate::Kind, *};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;
use uuid::Uuid;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    log: millrace_log::LogSettings,
    #[command(flatten)]
    store: millrace_tenancy::StoreSettings,
    #[command(flatten)]
    settings: millrace_processor::Settings,
    #[arg(long, default_value = "run")]
    mode: String,
    #[arg(long, default_value_t = 1000)]
    n: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn rng(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) ^ (*state >> 11)
}

fn send(producer: &BaseProducer, topic: &str, key: &str, payload: &[u8]) {
    let mut record = BaseRecord::to(topic).key(key).payload(payload);
    while let Err((_, back)) = producer.send(record) {
        producer.poll(Duration::from_millis(5));
        record = back;
    }
}

fn row(service: u128, start: i64, revision: i64, count: i64, kind: Kind) -> AggregateRow {
    let mut sketch = Sketch::default();
    for i in 0..count { sketch.add(1.0 + i as f64); }
    let mut row = AggregateRow {
        version: 1, kind, workspace_id: millrace_tenancy::WORKSPACE, service_id: ServiceId(Uuid::from_u128(service)),
        window: Window::ALL[(start / 5 % 3) as usize], window_start: EventTime(start * 1_000_000 * 300), query_count: count,
        success_count: count, failed_count: 0, timeout_count: 0, cancelled_count: 0, error_rate: 0.0, total_rows_affected: Some(count),
        duration_count: count, sum_duration_ms: Some((0..count).map(|i| 1.0 + i as f64).sum()), avg_duration_ms: None,
        min_duration_ms: Some(1.0), max_duration_ms: Some(count as f64), p50_duration_ms: None, p95_duration_ms: None, p99_duration_ms: None,
        revision, is_final: true, late_count: if kind == Kind::Delta { count } else { 0 }, position: 0, sketch: aggregate::encode_sketch(&sketch.to_bytes()),
    };
    aggregate::derive(&mut row, &sketch);
    row
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let pool = cli.store.connect().await.unwrap();
    let topics = cli.log.topics();
    let mut state = cli.seed.wrapping_add(12345);
    match cli.mode.as_str() {
        "setup" => {
            millrace_tenancy::migrate(&pool).await.unwrap();
            millrace_tenancy::seed_development(&pool).await.unwrap();
            millrace_log::ensure_topics(&cli.log).await.unwrap();
        }
        "raw" => {
            let producer: BaseProducer = cli.log.producer(Duration::from_secs(20)).create().unwrap();
            let mut unique = 0u64;
            let mut seen = std::collections::HashSet::new();
            for i in 0..cli.n {
                let service = rng(&mut state) % 20;
                let dup = rng(&mut state) % 20 == 0 && i > 0;
                let service_id = ServiceId(Uuid::from_u128(service as u128));
                let number = if dup { rng(&mut state) % i } else { i };
                // the same id always belongs to the same service, so meets itself
                let service_id = if dup { ServiceId(Uuid::from_u128((number % 20) as u128)) } else { ServiceId(Uuid::from_u128((i % 20) as u128)) };
                let kind = rng(&mut state) % 100;
                let workspace = if kind == 0 && !dup { WorkspaceId(Uuid::from_u128(9)) } else { millrace_tenancy::WORKSPACE };
                let completed = EventTime(1_768_000_000_000_000 + (number as i64) * 50_000);
                let metric = QueryMetric { id: RecordId(Uuid::from_u128(((cli.seed as u128) << 64) | number as u128)), workspace_id: workspace, service_id, query_text: format!("SELECT * FROM t{} WHERE id = {}", number % 100, number),
                    status: [Status::Success, Status::Failed, Status::Timeout, Status::Cancelled][(number % 4) as usize], duration_ms: if number % 10 == 0 { None } else { Some(number as f64 / 7.0 % 1000.0) },
                    rows_affected: (number % 3 == 0).then_some(number as i64), error_message: (number % 4 == 1).then(|| "boom".to_owned()), started_at: completed, completed_at: completed, tags: vec!["a".into(); (number % 3) as usize] };
                let payload = if kind == 1 && !dup { b"garbage".to_vec() } else { serde_json::to_vec(&metric).unwrap() };
                if workspace == millrace_tenancy::WORKSPACE && !(kind == 1 && !dup) && seen.insert(number) { unique += 1; }
                let _ = service;
                send(&producer, &topics.metrics, &key::record_key(workspace, service_id), &payload);
            }
            producer.flush(Duration::from_secs(30)).unwrap();
            println!("unique {unique}");
        }
        "agg" => {
            let producer: BaseProducer = cli.log.producer(Duration::from_secs(20)).set("transactional.id", "he.agg").create().unwrap();
            producer.init_transactions(Duration::from_secs(20)).unwrap();
            let identities: Vec<(u128, i64)> = (0..200).map(|i| (cli.seed as u128 * 1000 + i % 20, (i / 20 * 5 + i % 15 / 5 * 5) as i64)).collect();
            let mut expected: std::collections::BTreeMap<(u128, i64), i64> = Default::default();
            let mut revisions: std::collections::BTreeMap<(u128, i64), i64> = Default::default();
            producer.begin_transaction().unwrap();
            for i in 0..cli.n {
                let identity = identities[(rng(&mut state) % identities.len() as u64) as usize];
                let deltas = i > cli.n / 2;
                let count = 1 + (rng(&mut state) % 5) as i64;
                let row = if deltas {
                    *expected.entry(identity).or_default() += count;
                    row(identity.0, identity.1, 1, count, Kind::Delta)
                } else {
                    let revision = revisions.entry(identity).or_default();
                    *revision += 1;
                    expected.insert(identity, count);
                    row(identity.0, identity.1, *revision, count, Kind::Row)
                };
                send(&producer, &topics.aggregates, &key::record_key(row.workspace_id, row.service_id), &serde_json::to_vec(&row).unwrap());
                if rng(&mut state) % 50 == 0 {
                    if rng(&mut state) % 10 == 0 { send(&producer, &topics.aggregates, "x", b"garbage"); }
                    producer.commit_transaction(Duration::from_secs(20)).unwrap();
                    producer.begin_transaction().unwrap();
                }
            }
            producer.commit_transaction(Duration::from_secs(20)).unwrap();
            println!("rows {} queries {}", expected.len(), expected.values().sum::<i64>());
        }
        _ => {
            let registry = prometheus::Registry::new();
            let shutdown = tokio_util::sync::CancellationToken::new();
            let token = shutdown.clone();
            tokio::spawn(async move { tokio::signal::ctrl_c().await.unwrap(); token.cancel(); });
            let directory = millrace_tenancy::Directory::new(pool.clone());
            let instance = cli.settings.instance_id.clone();
            let sink = sink::run(sink::SinkComponents { log: cli.log.clone(), pool, metrics: sink::SinkMetrics::register(&registry).unwrap(), instance: instance.clone() }, shutdown.clone());
            let location = Location::open(&cli.settings.archive.archive_url).unwrap();
            let archive = run(ArchiveComponents { log: cli.log, directory, location, admission: cli.settings.admission, settings: cli.settings.archive, metrics: ArchiveMetrics::register(&registry).unwrap(), instance }, shutdown.clone());
            let token = shutdown.clone();
            let watch = registry.clone();
            let results = tokio::join!(sink, archive, async move {
                while !token.is_cancelled() {
                    tokio::select! { () = token.cancelled() => {}, () = tokio::time::sleep(Duration::from_secs(5)) => {} }
                    let text: Vec<String> = watch.gather().iter().flat_map(|f| { let name = f.name().to_owned(); f.get_metric().iter().map(move |m| format!("{name}={}", m.get_counter().get_value() + m.get_gauge().get_value())).collect::<Vec<_>>() }).collect();
                    eprintln!("METRICS {}", text.join(" "));
                }
            });
            println!("{results:?}");
        }
    }
}
