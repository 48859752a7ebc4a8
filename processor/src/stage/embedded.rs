//! An embedded log for tests of what reads and writes one.

use clap::{Args as _, FromArgMatches as _};
use millrace_broker::{Broker, Settings};
use millrace_log::{LogSettings, ensure_topics};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const PARTITIONS: i32 = 4;
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Embedded {
    pub log: LogSettings,
    pub runtime: Runtime,
    _broker: Broker,
    _folder: TempDir,
}

impl Embedded {
    /// With all topics.
    pub fn start() -> Self {
        let (runtime, folder) = (Runtime::new().expect("a runtime"), tempfile::tempdir().expect("a folder"));
        let command = Settings::augment_args(clap::Command::new("test"));
        let matches = command.get_matches_from(["test", "--log-listen", "127.0.0.1:0"]);
        let settings = Settings::from_arg_matches(&matches).expect("a free port");
        let broker = runtime.block_on(Broker::start(folder.path(), settings)).expect("a broker");
        let log = LogSettings {
            brokers: broker.address().to_string(),
            topic_prefix: "t.".to_owned(),
            topic_partitions: PARTITIONS,
            topic_replication: -1,
            properties: Vec::new(),
        };
        runtime.block_on(ensure_topics(&log)).expect("topics");
        Self { log, runtime, _broker: broker, _folder: folder }
    }

    /// Appends a record to each raw partition.
    pub fn produce_to_each(&self, payload: &[u8]) {
        let producer: BaseProducer = self.log.producer(PATIENCE).create().expect("a producer");
        for partition in 0..PARTITIONS {
            let topic = self.log.topics().metrics;
            let record = BaseRecord::<[u8], [u8]>::to(&topic).partition(partition).payload(payload);
            producer.send(record).map_err(|(error, _)| error).expect("sent");
        }
        producer.flush(PATIENCE).expect("the log has them");
    }

    /// A producer with a transaction that is open.
    pub fn transaction(&self) -> BaseProducer {
        self.transaction_of("t.other")
    }

    pub fn transaction_of(&self, id: &str) -> BaseProducer {
        let mut config = self.log.producer(PATIENCE);
        let producer: BaseProducer = config.set("transactional.id", id).create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("it may write");
        producer.begin_transaction().expect("a transaction");
        producer
    }
}

/// Sends a record within a transaction, and waits until the log has it.
pub fn send(producer: &BaseProducer, record: BaseRecord<'_, [u8], [u8]>) {
    producer.send(record).map_err(|(error, _)| error).expect("sent");
    producer.flush(PATIENCE).expect("the log has it");
}

pub fn until(what: &str, mut attempt: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !attempt() {
        assert!(Instant::now() < deadline, "not in time: {what}");
    }
}
