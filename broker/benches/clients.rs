//! What librdkafka gets out of the broker over loopback: `cargo bench -p millrace-broker --bench clients`.
//!
//! Figures only, nothing is asserted. With `MILLRACE_TEST_KAFKA=host:port` a real Kafka is measured in the same run; with
//! `-- --json` the table is JSON.

use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

const BROKER: &str = env!("CARGO_BIN_EXE_millrace-broker");
const RECORDS: usize = 1_000_000;
const RECORD_BYTES: usize = 300;
const PARTITIONS: i32 = 4;
/// Records a second while latency is measured, and for how long.
const PACE: usize = 1000;
const PACED: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// One line of the table: a figure of each broker.
struct Figure {
    what: String,
    unit: &'static str,
    of_each: Vec<f64>,
}

fn main() -> Result<()> {
    let json = std::env::args().any(|argument| argument == "--json");
    let folder = tempfile::tempdir()?;
    let ours = Ours::start(folder.path())?;
    let mut brokers = vec![("millrace", ours.address.clone())];
    brokers.extend(kafka().map(|address| ("kafka", address)));
    let mut figures =
        vec![Figure { what: "idle, resident".to_owned(), unit: "MB", of_each: vec![ours.resident_mb()?] }];
    for codec in ["none", "lz4"] {
        measure(&mut figures, &brokers, &format!("produced, {codec}"), "records/s", |address| {
            produced(address, codec)
        })?;
        measure(&mut figures, &brokers, &format!("consumed, {codec}"), "records/s", |address| {
            consumed(address, codec)
        })?;
    }
    latencies(&mut figures, &brokers)?;
    figures.push(Figure {
        what: "after it, resident".to_owned(),
        unit: "MB",
        of_each: vec![ours.resident_mb()?],
    });
    let text = if json { as_json(&brokers, &figures)? } else { as_table(&brokers, &figures) };
    std::io::stdout().write_all(text.as_bytes()).context("print")
}

fn measure(
    figures: &mut Vec<Figure>,
    brokers: &[(&str, String)],
    what: &str,
    unit: &'static str,
    figure: impl Fn(&str) -> Result<f64>,
) -> Result<()> {
    let of_each =
        brokers.iter().map(|(name, address)| figure(address).with_context(|| format!("{name}: {what}")));
    figures.push(Figure { what: what.to_owned(), unit, of_each: of_each.collect::<Result<_>>()? });
    Ok(())
}

/// Our broker as a process of its own.
struct Ours {
    child: Child,
    address: String,
}

impl Ours {
    fn start(folder: &std::path::Path) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(BROKER)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--log-listen", &address])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("stderr"))?)
            .spawn()?;
        let ours = Self { child, address };
        let consumer: BaseConsumer = client(&ours.address).create()?;
        consumer.fetch_metadata(None, PATIENCE).context("the broker does not start")?;
        Ok(ours)
    }

    fn resident_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
        let kilobytes: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kilobytes / 1024.0)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("the broker was not ended: {error}");
        }
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

fn create(address: &str, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(address).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = runtime.block_on(admin.create_topics([&topic], &options))?.pop().context("no answer")?;
    made.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)).context("create a topic")
}

/// Nothing else is called so.
fn topic(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}

/// Records a second, all of them acknowledged.
fn produced(address: &str, codec: &str) -> Result<f64> {
    let topic = topic(codec);
    create(address, &topic, PARTITIONS)?;
    let producer: BaseProducer = client(address)
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    // Half of it compresses: words and numbers, as telemetry is.
    let payload: Vec<u8> =
        (0..RECORD_BYTES).map(|at| if at % 2 == 0 { b'a' } else { (at * 7919 % 251) as u8 }).collect();
    let began = Instant::now();
    for number in 0..RECORDS {
        let partition = i32::try_from(number).expect("it is small") % PARTITIONS;
        let mut record = BaseRecord::<[u8], [u8]>::to(&topic).payload(&payload).partition(partition);
        while let Err((error, back)) = producer.send(record) {
            ensure!(error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull), "{error}");
            producer.poll(Duration::from_millis(1));
            record = back;
        }
        if number % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE)?;
    Ok(RECORDS as f64 / began.elapsed().as_secs_f64())
}

/// Records a second of what `produced` has left.
fn consumed(address: &str, codec: &str) -> Result<f64> {
    let consumer: BaseConsumer = client(address)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("queued.min.messages", "500000")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(&topic(codec), partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let (mut seen, began) = (0, Instant::now());
    while seen < RECORDS {
        next(&consumer)?;
        seen += 1;
    }
    Ok(RECORDS as f64 / began.elapsed().as_secs_f64())
}

/// How long after it was sent each record was acknowledged, in milliseconds.
#[derive(Default)]
struct Acknowledged(Mutex<Vec<f64>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, _: &DeliveryResult<'_>, sent: Box<Instant>) {
        let took_ms = sent.elapsed().as_secs_f64() * 1000.0;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(took_ms);
    }
}

fn latencies(figures: &mut Vec<Figure>, brokers: &[(&str, String)]) -> Result<()> {
    let mut of_each = Vec::new();
    for (name, address) in brokers {
        of_each.push(paced(address).with_context(|| format!("{name}: latency"))?);
    }
    let kinds = ["delivery p50", "delivery p99", "end to end p50", "end to end p99"];
    for (at, kind) in kinds.into_iter().enumerate() {
        let of_each = of_each.iter().map(|figures| figures[at]).collect();
        figures.push(Figure { what: format!("{kind}, {PACE}/s"), unit: "ms", of_each });
    }
    Ok(())
}

/// Median and 99th percentile, of the acknowledgement and of the arrival at a consumer.
fn paced(address: &str) -> Result<[f64; 4]> {
    let topic = topic("paced");
    create(address, &topic, 1)?;
    let producer: ThreadedProducer<Acknowledged> = client(address)
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .create_with_context(Acknowledged::default())?;
    // The first record waits for connections and a producer id: it is not measured.
    let first =
        BaseRecord::<[u8], [u8], _>::with_opaque_to(&topic, Box::new(Instant::now())).payload(b"first");
    producer.send(first).map_err(|(error, _)| error)?;
    producer.flush(PATIENCE)?;
    producer.context().0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let consumer: BaseConsumer =
        client(address).set("group.id", "bench").set("fetch.wait.max.ms", "500").create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(&topic, 0, Offset::Offset(1))?;
    consumer.assign(&partitions)?;
    let began = Instant::now();
    let arrivals = thread::spawn(move || arrived(&consumer, began));
    for number in 0..PACE * PACED {
        let due = began + Duration::from_secs_f64(number as f64 / PACE as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut payload = began.elapsed().as_nanos().to_le_bytes().to_vec();
        payload.resize(RECORD_BYTES, b'.');
        let record =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(&topic, Box::new(Instant::now())).payload(&payload);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    let acknowledged =
        std::mem::take(&mut *producer.context().0.lock().unwrap_or_else(PoisonError::into_inner));
    let arrived = arrivals.join().ok().context("the consumer panicked")??;
    let ([p50, p99], [end_p50, end_p99]) = (percentiles(acknowledged), percentiles(arrived));
    Ok([p50, p99, end_p50, end_p99])
}

fn arrived(consumer: &BaseConsumer, began: Instant) -> Result<Vec<f64>> {
    let mut took_ms = Vec::new();
    while took_ms.len() < PACE * PACED {
        let message = next(consumer)?;
        let sent = message.payload().and_then(|payload| payload.first_chunk()).context("no time in it")?;
        let sent = Duration::from_nanos(u64::try_from(u128::from_le_bytes(*sent))?);
        took_ms.push(began.elapsed().saturating_sub(sent).as_secs_f64() * 1000.0);
    }
    Ok(took_ms)
}

/// A poll also ends, with nothing, at an event that it deals with by itself.
fn next(consumer: &BaseConsumer) -> Result<BorrowedMessage<'_>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(deadline.saturating_duration_since(Instant::now())) {
            Some(message) => return Ok(message?),
            None => ensure!(Instant::now() < deadline, "no more records"),
        }
    }
}

fn percentiles(mut figures: Vec<f64>) -> [f64; 2] {
    figures.sort_by(f64::total_cmp);
    [figures.len() / 2, figures.len() * 99 / 100].map(|at| figures.get(at).copied().unwrap_or(f64::NAN))
}

fn as_table(brokers: &[(&str, String)], figures: &[Figure]) -> String {
    let names: String = brokers.iter().map(|(name, _)| format!("{name:>14}")).collect();
    let mut text = format!("{:28}{names}\n", format!("{RECORDS} records of {RECORD_BYTES} B"));
    for Figure { what, unit, of_each } in figures {
        let digits = if *unit == "records/s" { 0 } else { 2 };
        let values: String = of_each.iter().map(|value| format!("{value:>14.digits$}")).collect();
        text += &format!("{what:28}{values} {unit}\n");
    }
    text
}

fn as_json(brokers: &[(&str, String)], figures: &[Figure]) -> Result<String> {
    let rows = figures.iter().map(|Figure { what, unit, of_each }| {
        let values =
            brokers.iter().zip(of_each).map(|((name, _), value)| ((*name).to_owned(), (*value).into()));
        serde_json::json!({ "what": what, "unit": unit, "values": values.collect::<serde_json::Map<_, _>>() })
    });
    Ok(serde_json::to_string_pretty(&rows.collect::<Vec<_>>())? + "\n")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark takes it as the tests do")]
fn kafka() -> Option<String> {
    std::env::var("MILLRACE_TEST_KAFKA").ok().filter(|address| !address.is_empty())
}
