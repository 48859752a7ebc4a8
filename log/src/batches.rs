//! Messages of a consumer, past what rdkafka and librdkafka do for each that is polled alone: looks at the clock, locks and
//! counted pointers, which cost about as much as to fetch it.

#![expect(unsafe_code, reason = "rdkafka has no way to its queues; all the rest is the same client")]

use rdkafka::{
    bindings::{
        rd_kafka_consume_batch_queue, rd_kafka_consume_callback_queue, rd_kafka_message_destroy,
        rd_kafka_message_t, rd_kafka_message_timestamp, rd_kafka_queue_destroy, rd_kafka_queue_forward,
        rd_kafka_queue_get_partition, rd_kafka_queue_new, rd_kafka_queue_t, rd_kafka_t,
        rd_kafka_timestamp_type_t, rd_kafka_yield,
    },
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use std::{
    any::Any,
    ffi::{CString, c_int, c_void},
    marker::PhantomData,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::{self, NonNull},
    slice,
    time::Duration,
};

/// Where the messages of some partitions of a consumer go. Its events go on coming where it is polled.
pub struct Batches<'a, C: ConsumerContext + 'static> {
    consumer: &'a BaseConsumer<C>,
    queue: NonNull<rd_kafka_queue_t>,
}

impl<'a, C: ConsumerContext + 'static> Batches<'a, C> {
    pub fn new(consumer: &'a BaseConsumer<C>) -> Self {
        // SAFETY: the client is there for as long as `'a`, which the queue does not outlive.
        let queue = unsafe { rd_kafka_queue_new(consumer.client().native_ptr()) };
        Self { consumer, queue: NonNull::new(queue).expect("librdkafka makes a queue") }
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

    /// Gives `each` the messages and errors that are there, in the order in which they came, until it breaks off. It waits for
    /// the first, but no longer than `wait`, and sometimes it comes back earlier with none. After an error of `each` that
    /// message is lost: it has to be read again.
    ///
    /// To break off is for rare cases: librdkafka takes its queue for empty meanwhile and fetches more, and what is given back
    /// comes to that.
    pub fn take<E>(
        &mut self,
        wait: Duration,
        each: impl FnMut(Result<Fetched<'_>, KafkaError>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let client = self.consumer.client().native_ptr();
        let mut taking = Taking { client, each, ended: Ok(Ok(ControlFlow::Continue(()))) };
        let (callback, opaque) = (callback_of(&taking), (&raw mut taking).cast());
        // SAFETY: the queue is there, and `taking` is of the type that the function expects and nobody else's meanwhile.
        // Where the call says that it failed, nothing has come.
        unsafe {
            rd_kafka_consume_callback_queue(self.queue.as_ptr(), milliseconds(wait), Some(callback), opaque);
        }
        taking.ended.unwrap_or_else(|panic| resume_unwind(panic)).map(|_| ())
    }

    /// Takes up to `count` messages and gives them back unread; how many. It waits for so many, but no longer than `wait`.
    /// This is the cheapest way, but one to measure with only: once it has met the end of a partition, librdkafka goes on
    /// one offset too far after a pause (its issue 4844).
    pub fn skip(&mut self, count: usize, wait: Duration) -> usize {
        let mut taken = vec![ptr::null_mut(); count];
        // SAFETY: there is room for `count` pointers; as many as it says are set, and are ours to give back.
        unsafe {
            let set = rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                milliseconds(wait),
                taken.as_mut_ptr(),
                count,
            );
            taken.truncate(usize::try_from(set).unwrap_or(0));
            taken.iter().for_each(|message| rd_kafka_message_destroy(*message));
        }
        taken.len()
    }
}

/// Rounded up: librdkafka waits for whole ones, and who asks again at once for the rest spins.
pub fn whole_milliseconds(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn milliseconds(wait: Duration) -> c_int {
    c_int::try_from(whole_milliseconds(wait).as_millis()).unwrap_or(c_int::MAX)
}

impl<C: ConsumerContext + 'static> Drop for Batches<'_, C> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this.
        unsafe { rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// A take that is under way.
struct Taking<F, E> {
    client: *mut rd_kafka_t,
    each: F,
    /// Or what `each` panicked with.
    ended: Result<Result<ControlFlow<()>, E>, Box<dyn Any + Send>>,
}

type Callback = unsafe extern "C" fn(*mut rd_kafka_message_t, *mut c_void);

/// The function for takes of this type.
fn callback_of<F, E>(_: &Taking<F, E>) -> Callback
where
    F: FnMut(Result<Fetched<'_>, KafkaError>) -> Result<ControlFlow<()>, E>,
{
    pass_on::<F, E>
}

/// # Safety
/// librdkafka gives a message that is there until this returns, and the [`Taking`] of these types.
unsafe extern "C" fn pass_on<F, E>(message: *mut rd_kafka_message_t, taking: *mut c_void)
where
    F: FnMut(Result<Fetched<'_>, KafkaError>) -> Result<ControlFlow<()>, E>,
{
    // SAFETY: the caller says so.
    let taking = unsafe { &mut *taking.cast::<Taking<F, E>>() };
    let Some(native) = NonNull::new(message) else { return };
    let message = Fetched { native, _held: PhantomData };
    // A panic must not go through the C code.
    taking.ended = catch_unwind(AssertUnwindSafe(|| (taking.each)(message.or_error())));
    if !matches!(taking.ended, Ok(Ok(ControlFlow::Continue(())))) {
        // SAFETY: the client is there; what is left goes back to the head of the queue.
        unsafe { rd_kafka_yield(taking.client) };
    }
}

/// A message as librdkafka holds it.
pub struct Fetched<'m> {
    native: NonNull<rd_kafka_message_t>,
    _held: PhantomData<&'m ()>,
}

impl Fetched<'_> {
    /// What comes without being a message tells why.
    fn or_error(self) -> Result<Self, KafkaError> {
        match self.native().err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(self),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Err(KafkaError::PartitionEOF(self.partition()))
            }
            error => Err(KafkaError::MessageConsumption(error.into())),
        }
    }

    fn native(&self) -> &rd_kafka_message_t {
        // SAFETY: it is there for as long as this is, and nothing changes it.
        unsafe { self.native.as_ref() }
    }

    pub fn partition(&self) -> i32 {
        self.native().partition
    }

    pub fn offset(&self) -> i64 {
        self.native().offset
    }

    pub fn payload(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka says where the bytes are, and they stay there as long as the message.
        unsafe { bytes(self.native().payload.cast(), self.native().len) }
    }

    pub fn payload_len(&self) -> usize {
        self.native().len
    }

    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: as for the payload.
        unsafe { bytes(self.native().key.cast(), self.native().key_len) }
    }

    /// In milliseconds since 1970, if the log said.
    pub fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: it reads the message, and writes the kind.
        let ms = unsafe { rd_kafka_message_timestamp(self.native.as_ptr(), &raw mut kind) };
        (kind != rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && ms >= 0).then_some(ms)
    }
}

/// # Safety
/// `length` bytes are there for as long as the result is used, unless the pointer is null.
unsafe fn bytes<'b>(pointer: *const u8, length: usize) -> Option<&'b [u8]> {
    // SAFETY: the caller says so.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer, length) })
}

#[cfg(test)]
mod tests;
