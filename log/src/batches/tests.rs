use super::*;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::DefaultConsumerContext,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
};
use std::time::Instant;

const TOPIC: &str = "metrics";
const PATIENCE: Duration = Duration::from_secs(30);

type Seen = (i32, i64, Option<Vec<u8>>, Option<Vec<u8>>);

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

/// A record, or the partition whose end it is.
type Came = Result<Seen, i32>;

/// Takes until this is all.
fn until(
    batches: &mut Batches<'_, DefaultConsumerContext>,
    what: &str,
    is_all: impl Fn(&[Came]) -> bool,
) -> Vec<Came> {
    let mut came = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !is_all(&came) {
        assert!(Instant::now() < deadline, "{what}: it does not come after {came:?}");
        came.extend(take(batches));
    }
    came
}

fn records(came: impl IntoIterator<Item = Came>) -> Vec<Seen> {
    came.into_iter().filter_map(Result::ok).collect()
}

fn offsets(came: Vec<Came>) -> Vec<i64> {
    records(came).iter().map(|(_, offset, ..)| *offset).collect()
}

/// What came until so many ends were told.
fn until_ends(batches: &mut Batches<'_, DefaultConsumerContext>, wanted: usize) -> Vec<Seen> {
    let is_all = |came: &[Came]| came.iter().filter(|it| it.is_err()).count() >= wanted;
    records(until(batches, "an end", is_all))
}

fn take(batches: &mut Batches<'_, DefaultConsumerContext>) -> Vec<Came> {
    let mut came = Vec::new();
    let taken: Result<(), KafkaError> = batches.take(Duration::from_millis(50), |item| {
        match item {
            Ok(it) => {
                assert!(it.timestamp_ms().is_some_and(|ms| ms > 0));
                assert_eq!(it.payload_len(), it.payload().map_or(0, <[u8]>::len));
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                came.push(Ok((it.partition(), it.offset(), owned(it.key()), owned(it.payload()))));
            }
            Err(KafkaError::PartitionEOF(partition)) => came.push(Err(partition)),
            Err(error) => return Err(error),
        }
        Ok(if came.len() == MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    taken.expect("no trouble");
    assert!(came.len() <= MOST);
    came
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

/// The offsets that came until there were so many.
fn until_seen(batches: &mut Batches<'_, DefaultConsumerContext>, wanted: usize) -> Vec<i64> {
    let is_all = |came: &[Came]| came.iter().filter(|it| it.is_ok()).count() >= wanted;
    offsets(until(batches, "a record", is_all))
}

#[test]
fn all_that_a_partition_has_comes_in_its_order_and_what_is_taken_away_comes_no_more() {
    let (cluster, producer) = cluster(2);
    for number in 0..20_u8 {
        let key = [number];
        let record = BaseRecord::to(TOPIC).partition(i32::from(number % 2)).key(key.as_slice());
        let record = if number == 19 { record } else { record.payload(b"{}".as_slice()) };
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
            (partition, offset, Some(vec![number]), payload)
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
        let came = until(&mut batches, "records, and their end", |came| {
            let behind = came.iter().rposition(Result::is_ok).map_or(0, |last| last + 1);
            came.iter().filter(|it| it.is_ok()).count() >= expected.len() && came[behind..].contains(&Err(0))
        });
        assert_eq!(offsets(came), expected);
    }
    // Assigned anew it begins anew, here and not where events are polled.
    assign(&consumer, &[1]);
    let assigned = consumer.assignment().expect("an assignment");
    // What it fetches before it has its queue would be polled.
    consumer.pause(&assigned).expect("paused");
    let deadline = Instant::now() + PATIENCE;
    while consumer.seek(TOPIC, 1, Offset::Beginning, PATIENCE).is_err() {
        assert!(Instant::now() < deadline, "it is not assigned anew");
    }
    batches.add(TOPIC, 1).expect("a queue");
    consumer.resume(&assigned).expect("resumed");
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
    assert_eq!(until_seen(&mut batches, 4), [1, 2, 3, 4], "what is left");
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
    assert_eq!(until_seen(&mut batches, 2), [1, 2]);
}

#[test]
fn who_waits_for_less_than_a_millisecond_does_not_spin() {
    let waits = [0, 1, 1_000_000, 1_000_001].map(|nanos| milliseconds(Duration::from_nanos(nanos)));
    assert_eq!(waits, [0, 1, 1, 2]);
    assert_eq!(milliseconds(Duration::MAX), c_int::MAX);
}
