use super::*;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::DefaultConsumerContext,
    message::{Header, OwnedHeaders},
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
};
use std::time::Instant;

const TOPIC: &str = "metrics";
const PATIENCE: Duration = Duration::from_secs(30);

type Seen = (i32, i64, Option<Vec<u8>>, Option<Vec<u8>>, bool);

/// With the topic, and a producer.
fn cluster(partitions: i32) -> (MockCluster<'static, DefaultProducerContext>, BaseProducer) {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic(TOPIC, partitions, 1).expect("a topic");
    let mut config = ClientConfig::new();
    let producer = config.set("bootstrap.servers", cluster.bootstrap_servers()).create();
    (cluster, producer.expect("a producer"))
}

fn consumer(brokers: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "test").set("enable.partition.eof", "true");
    config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "50");
    config.create().expect("a consumer")
}

fn assign(consumer: &BaseConsumer, partitions: &[i32]) {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(TOPIC, *partition, Offset::Beginning).expect("a place");
    }
    consumer.assign(&list).expect("it is assigned");
}

/// All of these partitions, from their beginnings.
fn read<'a>(consumer: &'a BaseConsumer, partitions: &[i32]) -> Batches<'a, DefaultConsumerContext> {
    let batches = Batches::new(consumer);
    partitions.iter().for_each(|partition| batches.add(TOPIC, *partition).expect("a queue"));
    assign(consumer, partitions);
    batches
}

/// Taken at once.
const MOST: usize = 7;

/// Takes until as many ends were told.
fn until_ends(batches: &mut Batches<'_, DefaultConsumerContext>, wanted: usize) -> Vec<Seen> {
    let (mut seen, mut ends) = (Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while ends < wanted {
        assert!(Instant::now() < deadline, "it does not come to the end");
        let (records, more) = take(batches);
        seen.extend(records);
        ends += more;
    }
    seen
}

/// The records, and how many ends.
fn take(batches: &mut Batches<'_, DefaultConsumerContext>) -> (Vec<Seen>, usize) {
    let (mut seen, mut ends) = (Vec::new(), 0);
    let taken: Result<(), KafkaError> = batches.take(Duration::from_millis(50), |item| {
        match item {
            Ok(it) => {
                assert!(it.timestamp_ms().is_some_and(|ms| ms > 0));
                assert_eq!(it.payload_len(), it.payload().map_or(0, <[u8]>::len));
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                let from_edge = it.has_header(c"edge");
                seen.push((it.partition(), it.offset(), owned(it.key()), owned(it.payload()), from_edge));
            }
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => return Err(error),
        }
        Ok(if seen.len() + ends == MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    taken.expect("no trouble");
    assert!(seen.len() + ends <= MOST);
    (seen, ends)
}

/// To partition 0.
fn send(producer: &BaseProducer, key: &[u8]) {
    let record = BaseRecord::to(TOPIC).partition(0).key(key).payload(b"{}".as_slice());
    producer.send(record).map_err(|(error, _)| error).expect("it is sent");
    producer.flush(PATIENCE).expect("it is there");
}

fn pause_and_resume(consumer: &BaseConsumer, meanwhile: impl FnOnce()) {
    let assigned = consumer.assignment().expect("an assignment");
    consumer.pause(&assigned).expect("paused");
    meanwhile();
    consumer.resume(&assigned).expect("resumed");
}

/// Takes until so many records have come.
fn until_seen(batches: &mut Batches<'_, DefaultConsumerContext>, wanted: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < wanted {
        assert!(Instant::now() < deadline, "it does not come");
        seen.extend(take(batches).0);
    }
    seen
}

#[test]
fn all_that_a_partition_has_comes_in_its_order_and_what_is_taken_away_comes_no_more() {
    let (cluster, producer) = cluster(2);
    for number in 0..20_u8 {
        let headers = OwnedHeaders::new().insert(Header { key: "edge", value: Some("one") });
        let key = [number];
        let record = BaseRecord::to(TOPIC).partition(i32::from(number % 2)).key(key.as_slice());
        let record = if number == 19 { record } else { record.payload(b"{}".as_slice()) };
        let record = if number < 2 { record.headers(headers) } else { record };
        producer.send(record).map_err(|(error, _)| error).expect("it is sent");
    }
    producer.flush(PATIENCE).expect("they are there");
    let consumer = consumer(&cluster.bootstrap_servers());
    let mut batches = read(&consumer, &[0, 1]);
    let mut seen = until_ends(&mut batches, 2);
    seen.sort_unstable();
    let expected: Vec<Seen> = (0..2)
        .flat_map(|partition| (0..10).map(move |offset| (partition, offset)))
        .map(|(partition, offset)| {
            let number = u8::try_from(offset * 2 + i64::from(partition)).expect("few");
            let payload = (number != 19).then(|| b"{}".to_vec());
            (partition, offset, Some(vec![number]), payload, number < 2)
        })
        .collect();
    assert_eq!(seen, expected);
    // At the end, a pause (librdkafka makes one in each rebalance) passes nothing over and brings nothing twice.
    for number in 0..2_u8 {
        pause_and_resume(&consumer, || {
            if number == 1 {
                send(&producer, &[number]);
            }
        });
        send(&producer, &[number]);
        let expected = if number == 0 { vec![10] } else { vec![11, 12] };
        let came = until_seen(&mut batches, expected.len());
        assert_eq!(came.iter().map(|(_, offset, ..)| *offset).collect::<Vec<_>>(), expected);
        until_ends(&mut batches, 1);
    }
    // Assigned anew it begins anew, here and not where events are polled.
    assign(&consumer, &[1]);
    let deadline = Instant::now() + PATIENCE;
    while consumer.seek(TOPIC, 1, Offset::Beginning, PATIENCE).is_err() {
        assert!(Instant::now() < deadline, "it is not assigned anew");
    }
    batches.add(TOPIC, 1).expect("a queue");
    let again = until_ends(&mut batches, 1);
    assert_eq!(again.len(), 10);
    assert!(again.iter().all(|(partition, ..)| *partition == 1));
    assert!(consumer.poll(Duration::ZERO).is_none());
}

#[test]
fn who_fails_is_given_no_more() {
    let (cluster, producer) = cluster(1);
    (0..5).for_each(|number| send(&producer, &[number]));
    let consumer = consumer(&cluster.bootstrap_servers());
    let mut batches = read(&consumer, &[0]);
    let (mut given, mut refused) = (0, Ok(()));
    let deadline = Instant::now() + PATIENCE;
    while refused.is_ok() {
        assert!(Instant::now() < deadline, "nothing comes");
        refused = batches.take(Duration::from_millis(50), |item| {
            given += 1;
            item.map_or(Err("a message"), |_| Err::<ControlFlow<()>, _>("no more"))
        });
    }
    assert_eq!((refused, given), (Err("no more"), 1));
    let after = until_seen(&mut batches, 4);
    assert_eq!(after.iter().map(|(_, offset, ..)| *offset).collect::<Vec<_>>(), [1, 2, 3, 4], "what is left");
}

#[test]
fn a_panic_comes_through_and_what_is_left_stays() {
    let (cluster, producer) = cluster(1);
    (0..3).for_each(|number| send(&producer, &[number]));
    let consumer = consumer(&cluster.bootstrap_servers());
    let mut batches = read(&consumer, &[0]);
    let deadline = Instant::now() + PATIENCE;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        while Instant::now() < deadline {
            let taken: Result<(), ()> = batches.take(Duration::from_millis(50), |_| panic!("on purpose"));
            taken.expect("no error");
        }
    }));
    assert!(panicked.is_err(), "it did not panic");
    let after = until_seen(&mut batches, 2);
    assert_eq!(after.iter().map(|(_, offset, ..)| *offset).collect::<Vec<_>>(), [1, 2]);
}
