//! Messages of a consumer, many at a time. One by one each costs an event, some locks and looks at the clock, which is
//! more than it costs to fetch it.

#![expect(unsafe_code, reason = "rdkafka hands over one message at a time; all the rest is the same client")]

use rdkafka::{
    bindings::{
        rd_kafka_consume_batch_queue, rd_kafka_header_get_last, rd_kafka_headers_t, rd_kafka_message_destroy,
        rd_kafka_message_headers, rd_kafka_message_t, rd_kafka_message_timestamp, rd_kafka_queue_destroy,
        rd_kafka_queue_forward, rd_kafka_queue_get_partition, rd_kafka_queue_new, rd_kafka_queue_t,
        rd_kafka_timestamp_type_t,
    },
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use std::{
    ffi::{CStr, CString},
    marker::PhantomData,
    ptr::{self, NonNull},
    slice,
    time::Duration,
};

/// Where the messages of some partitions of a consumer go. Its events go on coming where it is polled.
pub struct Batches<'a, C: ConsumerContext + 'static> {
    consumer: &'a BaseConsumer<C>,
    queue: NonNull<rd_kafka_queue_t>,
    taken: Vec<*mut rd_kafka_message_t>,
}

impl<'a, C: ConsumerContext + 'static> Batches<'a, C> {
    pub fn new(consumer: &'a BaseConsumer<C>) -> Self {
        // SAFETY: the client is there for as long as `'a`, which the queue does not outlive.
        let queue = unsafe { rd_kafka_queue_new(consumer.client().native_ptr()) };
        Self { consumer, queue: NonNull::new(queue).expect("librdkafka makes a queue"), taken: Vec::new() }
    }

    /// From now on this partition's messages and errors come here, for as long as it is assigned.
    pub fn add(&self, topic: &str, partition: i32) -> Result<(), KafkaError> {
        let refused = || KafkaError::Subscription(format!("partition {partition} of {topic} has no queue"));
        let topic = CString::new(topic).map_err(|_| refused())?;
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client and the text are there, and the queue is counted: it may be given back once it is forwarded.
        unsafe {
            let source = rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            let source = NonNull::new(source).ok_or_else(refused)?;
            rd_kafka_queue_forward(source.as_ptr(), self.queue.as_ptr());
            rd_kafka_queue_destroy(source.as_ptr());
        }
        Ok(())
    }

    /// Gives `each` up to `count` messages and errors in the order in which they came. It waits for `count` of them, but
    /// no longer than `wait`. After an error of `each` the others of the batch are lost: they have to be read again.
    pub fn take<E>(
        &mut self,
        count: usize,
        wait: Duration,
        mut each: impl FnMut(Result<Fetched<'a>, KafkaError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.taken.clear();
        self.taken.resize(count, ptr::null_mut());
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: there is room for `count` pointers; as many as it says are set, and are ours to give back.
        let taken = unsafe {
            rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.taken.as_mut_ptr(), count)
        };
        let mut result = Ok(());
        for message in self.taken.drain(..usize::try_from(taken).unwrap_or(0)) {
            let native = NonNull::new(message).expect("librdkafka sets as many as it says");
            let fetched = Fetched { native, _consumer: PhantomData };
            if result.is_ok() {
                result = each(fetched.checked());
            }
        }
        result
    }
}

impl<C: ConsumerContext + 'static> Drop for Batches<'_, C> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this.
        unsafe { rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// A message as librdkafka holds it.
pub struct Fetched<'a> {
    native: NonNull<rd_kafka_message_t>,
    _consumer: PhantomData<&'a ()>,
}

impl Fetched<'_> {
    fn native(&self) -> &rd_kafka_message_t {
        // SAFETY: it is there until `drop`, and nothing changes it.
        unsafe { self.native.as_ref() }
    }

    fn checked(self) -> Result<Self, KafkaError> {
        match self.native().err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(self),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Err(KafkaError::PartitionEOF(self.partition()))
            }
            error => Err(KafkaError::MessageConsumption(error.into())),
        }
    }

    pub fn partition(&self) -> i32 {
        self.native().partition
    }

    pub fn offset(&self) -> i64 {
        self.native().offset
    }

    pub fn payload(&self) -> Option<&[u8]> {
        let native = self.native();
        // SAFETY: librdkafka says where the bytes are, and they stay there until `drop`.
        unsafe { bytes(native.payload.cast(), native.len) }
    }

    pub fn payload_len(&self) -> usize {
        self.native().len
    }

    pub fn key(&self) -> Option<&[u8]> {
        let native = self.native();
        // SAFETY: as for the payload.
        unsafe { bytes(native.key.cast(), native.key_len) }
    }

    /// In milliseconds since 1970, if the log said.
    pub fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: it reads the message, and writes the kind.
        let ms = unsafe { rd_kafka_message_timestamp(self.native.as_ptr(), &raw mut kind) };
        (kind != rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && ms >= 0).then_some(ms)
    }

    pub fn has_header(&self, name: &CStr) -> bool {
        let mut headers: *mut rd_kafka_headers_t = ptr::null_mut();
        let (mut value, mut length) = (ptr::null(), 0);
        // SAFETY: it parses the headers of the message, which keeps them, and writes where they are; where there are none
        // it says so, and nothing is looked up.
        let error = unsafe {
            match rd_kafka_message_headers(self.native.as_ptr(), &raw mut headers) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut length)
                }
                error => error,
            }
        };
        error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
    }
}

impl Drop for Fetched<'_> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this.
        unsafe { rd_kafka_message_destroy(self.native.as_ptr()) };
    }
}

/// # Safety
/// `length` bytes are there for as long as the result is used, unless the pointer is null.
unsafe fn bytes<'b>(pointer: *const u8, length: usize) -> Option<&'b [u8]> {
    // SAFETY: the caller says so.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer, length) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::{
        ClientConfig, Offset, TopicPartitionList,
        message::{Header, OwnedHeaders},
        mocking::MockCluster,
        producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
    };

    const TOPIC: &str = "metrics";
    const PATIENCE: Duration = Duration::from_secs(30);

    type Seen = (i32, i64, Option<Vec<u8>>, Option<Vec<u8>>, bool);

    fn consumer(brokers: &str) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "test").set("enable.partition.eof", "true");
        config.create().expect("a consumer")
    }

    fn assign(consumer: &BaseConsumer, partitions: &[i32]) {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(TOPIC, *partition, Offset::Beginning).expect("a place");
        }
        consumer.assign(&list).expect("it is assigned");
    }

    /// Takes until as many ends were told.
    fn until_ends(
        batches: &mut Batches<'_, rdkafka::consumer::DefaultConsumerContext>,
        wanted: usize,
    ) -> Vec<Seen> {
        let (mut seen, mut ends) = (Vec::new(), 0);
        let deadline = std::time::Instant::now() + PATIENCE;
        while ends < wanted {
            assert!(std::time::Instant::now() < deadline, "it does not come to the end");
            let taken: Result<(), KafkaError> = batches.take(3, Duration::from_millis(50), |item| {
                match item {
                    Ok(it) => {
                        assert!(
                            it.timestamp_ms().is_some_and(|ms| ms > 0)
                                && it.payload_len() == it.payload().map_or(0, <[u8]>::len)
                        );
                        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                        seen.push((
                            it.partition(),
                            it.offset(),
                            owned(it.key()),
                            owned(it.payload()),
                            it.has_header(c"edge"),
                        ));
                    }
                    Err(KafkaError::PartitionEOF(_)) => ends += 1,
                    Err(error) => return Err(error),
                }
                Ok(())
            });
            taken.expect("no trouble");
        }
        seen
    }

    #[test]
    fn all_that_a_partition_has_comes_in_its_order_and_what_is_taken_away_comes_no_more() {
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic(TOPIC, 2, 1).expect("a topic");
        let brokers = cluster.bootstrap_servers();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
        for number in 0..20_u8 {
            let headers = OwnedHeaders::new().insert(Header { key: "edge", value: Some("one") });
            let key = [number];
            let record = BaseRecord::to(TOPIC).partition(i32::from(number % 2)).key(key.as_slice());
            let record = if number == 19 { record } else { record.payload(b"{}".as_slice()) };
            let record = if number < 2 { record.headers(headers) } else { record };
            producer.send(record).map_err(|(error, _)| error).expect("it is sent");
        }
        producer.flush(PATIENCE).expect("they are there");
        let consumer = consumer(&brokers);
        let mut batches = Batches::new(&consumer);
        batches.add(TOPIC, 0).expect("a queue");
        batches.add(TOPIC, 1).expect("a queue");
        assign(&consumer, &[0, 1]);
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
        // Assigned anew it begins anew, here and not where events are polled.
        assign(&consumer, &[1]);
        let deadline = std::time::Instant::now() + PATIENCE;
        while consumer.seek(TOPIC, 1, Offset::Beginning, PATIENCE).is_err() {
            assert!(std::time::Instant::now() < deadline, "it is not assigned anew");
        }
        batches.add(TOPIC, 1).expect("a queue");
        let again = until_ends(&mut batches, 1);
        assert_eq!(again.len(), 10);
        assert!(again.iter().all(|(partition, ..)| *partition == 1));
        assert!(consumer.poll(Duration::ZERO).is_none());
    }

    #[test]
    fn who_fails_is_given_no_more() {
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic(TOPIC, 1, 1).expect("a topic");
        let brokers = cluster.bootstrap_servers();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
        for _ in 0..5 {
            let record = BaseRecord::<[u8], [u8]>::to(TOPIC).payload(b"{}".as_slice());
            producer.send(record).map_err(|(error, _)| error).expect("it is sent");
        }
        producer.flush(PATIENCE).expect("they are there");
        let consumer = consumer(&brokers);
        let mut batches = Batches::new(&consumer);
        batches.add(TOPIC, 0).expect("a queue");
        assign(&consumer, &[0]);
        let mut given = 0;
        let refused = batches.take(5, PATIENCE, |item| {
            given += 1;
            item.map_or(Err("a message"), |_| Err("no more"))
        });
        assert_eq!((refused, given), (Err("no more"), 1));
    }
}
