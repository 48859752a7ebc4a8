//! A worker on an embedded log while others don't answer.

use super::*;
use crate::stage::embedded::{Embedded, PARTITIONS, PATIENCE, until};
use millrace_schemas::WorkspaceId;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::Producer as _,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::{
    net::TcpListener,
    thread::{self, JoinHandle},
};

struct Running {
    meters: Meters,
    shutdown: CancellationToken,
    thread: JoinHandle<Result<(), StageError>>,
}

impl Running {
    /// Its database is at this port of this machine.
    fn start(site: &Embedded, database: u16) -> Self {
        let _context = site.runtime.enter();
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(database);
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(500));
        let pool = pool.connect_lazy_with(options);
        let meters = Meters::register(&prometheus::Registry::new()).expect("metrics");
        let components = Components {
            log: site.log.clone(),
            directory: Directory::new(pool),
            plan: site.runtime.block_on(Plan::declare()).expect("plans"),
            meters: meters.clone(),
            left_open: LeftOpen::new(&site.log),
            shutdown: CancellationToken::new(),
        };
        let settings = CombineSettings {
            admission: AdmissionSettings::default(),
            windows: WindowSettings::default(),
            place: place(site, "first"),
            workers: 1,
        };
        let shutdown = components.shutdown.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            run(&components, &settings, &runtime.expect("a runtime"))
        });
        Self { meters, shutdown, thread }
    }

    fn dead_letters(&self) -> u64 {
        self.meters.records.with_label_values(&["dead_letter"]).get()
    }

    fn stop(self) -> Result<(), StageError> {
        self.shutdown.cancel();
        self.thread.join().expect("it does not panic")
    }
}

fn place(site: &Embedded, process: &str) -> Place {
    Place { process: site.log.name(process), worker: Some(0) }
}

/// Nothing listens there.
const NO_DATABASE: u16 = 1;

#[test]
fn waits_on_a_thread_of_its_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let began = Instant::now();
    wait(&runtime, Duration::from_millis(20));
    assert!(began.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_partition_that_a_dead_one_has_in_a_transaction_holds_up_no_other() {
    let site = Embedded::start();
    let topic = site.log.topics().metrics;
    site.produce_to_each(b"garbage");
    let dead = site.transaction();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(0)).expect("an offset");
    let consumer: BaseConsumer = site.log.consumer("combine").create().expect("a consumer");
    let group = consumer.group_metadata().expect("it names the group");
    dead.send_offsets_to_transaction(&offsets, &group, PATIENCE).expect("sent");
    let running = Running::start(&site, NO_DATABASE);
    let others = u64::try_from(PARTITIONS - 1).expect("some");
    until("the others are read", || running.dead_letters() == others);
    dead.commit_transaction(PATIENCE).expect("committed");
    until("all are read", || running.dead_letters() == others + 1);
    running.stop().expect("it ends well");
}

#[test]
fn who_waits_for_the_database_keeps_nobody_in_the_group_waiting() {
    let site = Embedded::start();
    let database = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = database.local_addr().expect("an address").port();
    let record = serde_json::json!({
        "id": uuid::Uuid::from_u128(1),
        "workspace_id": WorkspaceId(uuid::Uuid::from_u128(2)),
        "service_id": uuid::Uuid::from_u128(3),
        "query_text": "select 1",
        "status": "success",
        "duration_ms": 1.0,
        "started_at": "2026-11-21T10:00:00Z",
        "completed_at": "2026-11-21T10:00:01Z",
    });
    site.produce_to_each(record.to_string().as_bytes());
    let running = Running::start(&site, port);
    database.accept().expect("it asks the database, which never answers");
    let left_open = LeftOpen::new(&site.log);
    let second = Client::connect(
        &site.log,
        stage(&site.log.topics()),
        place(&site, "second"),
        &left_open,
        &CancellationToken::new(),
    );
    let second = second.expect("a member");
    until("the second has something", || {
        second.consumer.poll(POLL_WAIT);
        match second.news() {
            Some(Assignment::Assigned(partitions)) => {
                second.take_on(&partitions).expect("taken on");
                !partitions.is_empty()
            }
            Some(Assignment::Revoked(partitions)) => {
                second.give_up(&partitions).expect("given up");
                false
            }
            None => false,
        }
    });
    running.shutdown.cancel();
    until("it ends", || running.thread.is_finished());
}
