//! A producer that waits for all acknowledgements and notes where each record was said to be.

use super::PARTITIONS;
use crate::harness::{Backend, Delivery, PATIENCE, Producer};
use anyhow::{Context as _, Result, ensure};
use rdkafka::producer::{BaseRecord, Producer as _};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub const TOPIC: &str = "load";
/// So many records of one producer are on their way at once: batches of many sizes, and a load that can be looked at in the
/// end.
const IN_FLIGHT: [i32; 4] = [5, 20, 10, 200];

pub struct Load {
    pub codec: &'static str,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Delivery>>>,
}

impl Load {
    pub fn start(backend: &Backend, codec: &'static str) -> Result<Self> {
        let producer = backend.producer(&[
            ("compression.type", codec),
            ("message.timeout.ms", "300000"),
            ("retry.backoff.ms", "10"),
            ("linger.ms", "2"),
        ])?;
        let (acknowledged, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (theirs, stopped) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let thread = thread::spawn(move || produce(&producer, codec, &theirs, &stopped));
        Ok(Self { codec, acknowledged, stop, thread })
    }

    /// How many records were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for the rest; where each record is, in the order of the acknowledgements.
    pub fn end(self) -> Result<Vec<Delivery>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the producer panicked")?
    }
}

fn produce(
    producer: &Producer,
    codec: &str,
    acknowledged: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<Vec<Delivery>> {
    let (mut all, mut next) = (Vec::new(), 0_usize);
    while !stop.load(Ordering::Relaxed) {
        if producer.0.in_flight_count() < IN_FLIGHT[next / 1000 % 4] {
            let value = value(codec, next);
            let partition = i32::try_from(next).expect("it is small") % PARTITIONS;
            producer.queue(
                BaseRecord::to(TOPIC).key(b"k".as_slice()).payload(value.as_slice()).partition(partition),
            )?;
            next += 1;
        } else {
            thread::sleep(Duration::from_millis(5));
        }
        take(producer, &mut all, acknowledged)?;
    }
    producer.0.flush(PATIENCE).context("the rest")?;
    take(producer, &mut all, acknowledged)?;
    ensure!(all.len() == next, "{next} sent, {} acknowledged", all.len());
    Ok(all)
}

fn take(producer: &Producer, all: &mut Vec<Delivery>, acknowledged: &AtomicUsize) -> Result<()> {
    for delivery in producer.deliveries() {
        ensure!(delivery.error.is_none(), "given up: {delivery:?}");
        all.push(delivery);
    }
    acknowledged.store(all.len(), Ordering::Relaxed);
    Ok(())
}

/// The `number`th value of a producer: of any length, and compressible.
pub fn value(codec: &str, number: usize) -> Vec<u8> {
    format!("{codec} {number} {}", ".".repeat(number % 300)).into_bytes()
}
