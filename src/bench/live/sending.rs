//! Sends batches at a rate, whether or not earlier ones are answered, and notes when each was acknowledged.

use super::{Arrivals, LiveBench};
use crate::bench::{
    fill,
    load::{
        Schedule,
        batch::{Batch, Target},
        http::Connection,
    },
};
use anyhow::ensure;
use chrono::Utc;
use std::{collections::HashSet, sync::Arc};
use tokio::task::JoinSet;

/// So that one slow answer does not hold up the next requests.
const CONNECTIONS: u32 = 16;

/// Until all is sent. Batch number `n` has the events from `n` × events on.
pub async fn run(bench: &LiveBench, target: &Target, acknowledged: &Arc<Arrivals>) -> anyhow::Result<()> {
    let mut senders = JoinSet::new();
    let rate = f64::from(bench.rate) / f64::from(bench.batch);
    let mut prepared = Vec::new();
    for number in 0..CONNECTIONS {
        let connection = Connection::open(target.address).await?;
        prepared.push((connection, Batch::new(target, number.wrapping_mul(bench.batch), bench.batch)?));
    }
    let batches = bench.batches();
    for (number, (mut connection, mut batch)) in (0..CONNECTIONS).zip(prepared) {
        let (mut schedule, acknowledged) =
            (Schedule::new(rate, number, CONNECTIONS), Arc::clone(acknowledged));
        senders.spawn(async move {
            for turn in (u64::from(number)..batches).step_by(CONNECTIONS as usize) {
                schedule.next().await;
                let status = connection.request(batch.stamp(turn, Some(Utc::now()))).await?;
                ensure!(status == 202, "the edge answered {status}");
                acknowledged.note(turn);
            }
            Ok(())
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    Ok(())
}

/// How many services the events are of, in any stretch that has a request of each connection.
pub fn services(bench: &LiveBench) -> usize {
    let numbers = 0..CONNECTIONS * bench.batch;
    numbers.map(|number| fill::service(bench.keys, number)).collect::<HashSet<_>>().len()
}
