//! A load of HTTP requests on the edge: connections that are kept alive, each with one request in flight, on bytes that
//! are prepared before. It must cost little, for it shares the machine with what it measures.

pub mod batch;
pub mod http;
pub mod latency;
pub mod websocket;

use super::stall::STALL_MAX;
use anyhow::{Context, ensure};
use batch::{Batch, Target};
use http::Connection;
use latency::Latencies;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

const ACCEPTED: u16 = 202;

/// How much at once.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub connections: u32,
    pub events: u32,
    /// Requests a second, whether or not earlier ones are answered; without it each connection sends when it has its answer.
    pub rate: Option<f64>,
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const ENDED: u8 = 2;

pub struct Load {
    stage: Arc<AtomicU8>,
    connections: JoinSet<anyhow::Result<Answered>>,
    began: Option<Instant>,
}

/// What was answered while measuring.
#[derive(Debug, Default)]
pub struct Answered {
    pub requests: u64,
    /// Not with 202.
    pub refused: u64,
    pub bytes_sent: u64,
    /// Of those that were accepted; with a rate, from when the request should have been sent.
    pub latencies: Latencies,
}

/// Until the edge has accepted one request: its client has found the log's partitions.
pub async fn first_answer(target: &Target) -> anyhow::Result<()> {
    let (mut connection, mut batch) = (Connection::open(target.address).await?, Batch::new(target, 0, 1)?);
    let started = Instant::now();
    for number in 0.. {
        let status = connection.request(batch.stamp(number, None)).await?;
        if status == ACCEPTED {
            break;
        }
        ensure!(started.elapsed() < STALL_MAX, "the edge answers {status}");
    }
    Ok(())
}

impl Load {
    /// Opens all connections, then sends.
    pub async fn start(target: &Target, shape: Shape) -> anyhow::Result<Self> {
        let stage = Arc::new(AtomicU8::new(WARMING_UP));
        let mut opened = Vec::new();
        for number in 0..shape.connections {
            let connection = Connection::open(target.address).await?;
            opened.push((connection, Batch::new(target, number.wrapping_mul(shape.events), shape.events)?));
        }
        let mut connections = JoinSet::new();
        for (number, (connection, batch)) in (0..).zip(opened) {
            let schedule = shape.rate.map(|rate| Schedule::new(rate, number, shape.connections));
            let sender = Sender { connection, batch, schedule, stage: Arc::clone(&stage) };
            connections.spawn(sender.run());
        }
        Ok(Self { stage, connections, began: None })
    }

    /// What is answered from now on counts.
    pub fn measure(&mut self) {
        self.began = Some(Instant::now());
        self.stage.store(MEASURING, Ordering::Relaxed);
    }

    /// What was answered until now, and how long that took.
    pub async fn end(mut self) -> anyhow::Result<(Answered, Duration)> {
        self.stage.store(ENDED, Ordering::Relaxed);
        let elapsed = self.began.context("it was measured")?.elapsed();
        let mut all = Answered::default();
        while let Some(answered) = self.connections.join_next().await {
            all.add(answered??);
        }
        ensure!(all.requests > 0, "no request was answered within {elapsed:?}");
        Ok((all, elapsed))
    }
}

impl Answered {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.bytes_sent += other.bytes_sent;
        self.latencies.add(other.latencies);
    }
}

/// When each request of one connection should be sent.
pub struct Schedule {
    next: Instant,
    step: Duration,
}

impl Schedule {
    /// Of connection `number` of so many, which take turns at `rate` requests a second.
    pub fn new(rate: f64, number: u32, connections: u32) -> Self {
        let turn = Duration::from_secs_f64(1.0 / rate);
        Self { next: Instant::now() + turn * number, step: turn * connections }
    }

    /// Waits for the next time, unless it has passed, and says which it is.
    pub async fn next(&mut self) -> Instant {
        let time = self.next;
        self.next += self.step;
        if time > Instant::now() {
            sleep_until(time).await;
        }
        time
    }
}

struct Sender {
    connection: Connection,
    batch: Batch,
    schedule: Option<Schedule>,
    stage: Arc<AtomicU8>,
}

impl Sender {
    async fn run(mut self) -> anyhow::Result<Answered> {
        let (mut answered, mut number) = (Answered::default(), 0);
        while self.stage.load(Ordering::Relaxed) != ENDED {
            let due = match &mut self.schedule {
                Some(schedule) => schedule.next().await,
                None => Instant::now(),
            };
            let request = self.batch.stamp(number, None);
            number += 1;
            let bytes = request.len() as u64;
            let status = self.connection.request(request).await?;
            if self.stage.load(Ordering::Relaxed) != MEASURING {
                continue;
            }
            answered.requests += 1;
            answered.bytes_sent += bytes;
            if status == ACCEPTED {
                answered.latencies.add_one(due.elapsed());
            } else {
                answered.refused += 1;
            }
        }
        Ok(answered)
    }
}
