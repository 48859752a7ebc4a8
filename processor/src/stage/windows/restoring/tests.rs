//! On an embedded log, as another worker has left it.

use super::*;
use crate::stage::left_open::LeftOpen;
use crate::{
    plan::Plan,
    stage::{
        embedded::{Embedded, PATIENCE, send},
        windows::Meters,
    },
};
use rdkafka::producer::{BaseRecord, Producer as _};

#[test]
fn rows_of_a_transaction_that_is_open_are_not_passed_over() {
    let site = Embedded::start();
    let topics = site.log.topics();
    let components = Components {
        log: site.log.clone(),
        plan: site.runtime.block_on(Plan::declare()).expect("plans"),
        meters: Meters::register(&prometheus::Registry::new()).expect("metrics"),
        left_open: LeftOpen::new(&site.log),
        shutdown: CancellationToken::new(),
    };
    let restoring = Restoring {
        components,
        settings: WindowSettings::default(),
        channel: Channel {
            topic: topics.progress.clone(),
            partitions: site.log.topic_partitions,
            partials: site.log.topic_partitions,
            watermark_delay: std::time::Duration::ZERO,
            late_horizon: std::time::Duration::ZERO,
        },
        past: Arc::new(Mutex::new(Past::connect(&site.log).expect("connected"))),
        positions: Arc::new(Positions::connect(&site.log, "windows", &topics.partials).expect("connected")),
        topic: topics.partials,
        aggregates: topics.aggregates.clone(),
    };
    let producer = site.transaction();
    send(&producer, BaseRecord::<[u8], [u8]>::to(&topics.aggregates).partition(0).payload(b"a row"));
    let Err(error) = restoring.run(0, &CancellationToken::new()) else { panic!("its rows are not known") };
    assert!(matches!(error, StageError::Unsettled { partition: 0, .. }), "{error}");
    producer.commit_transaction(PATIENCE).expect("committed");
    let partition = loop {
        match restoring.run(0, &CancellationToken::new()) {
            Err(StageError::Unsettled { .. }) => {}
            restored => break restored.expect("restored"),
        }
    };
    assert!(partition.aggregates_end >= 1, "{}", partition.aggregates_end);
}
