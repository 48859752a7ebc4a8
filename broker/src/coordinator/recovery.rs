//! At open: what the logs and the journal say of transactions is made to agree.
//!
//! Logs are forced to the disk before the journal, so that a power loss may leave records of a transaction, or of a producer
//! id, that the journal knows nothing of.

use super::{
    event::Turn,
    state::State,
    timing::RETRY_MS,
    transaction::{Producer, Transaction},
};
use crate::{
    log::{Durable, Outcome, PartitionLog},
    topics::Topics,
};
use kafka_protocol::ResponseError;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A producer id past this is no id of ours: some client has made it up.
const PRODUCER_ID_MAX: i64 = i64::MAX / 2;

/// Where a producer has a transaction open that the journal does not know, and the epoch it wrote with.
struct Stray {
    topic: String,
    partition: i32,
    epoch: i16,
    log: Arc<PartitionLog>,
}

/// Before clients are let in.
pub fn recover(state: &mut State, topics: &Topics, now_ms: i64) -> Result<(), ResponseError> {
    let mut strays = BTreeMap::<i64, Vec<Stray>>::new();
    let held: HashMap<i64, Transaction> =
        state.transactions.all().map(|known| (known.producer_id, known.clone())).collect();
    let mut last_id = -1;
    for topic in topics.all() {
        for (partition, log) in (0..).zip(&topic.partitions) {
            for producer in log.producers() {
                let id = producer.producer_id;
                if id < PRODUCER_ID_MAX {
                    last_id = last_id.max(id);
                }
                let place = (topic.name.clone(), partition);
                let is_held = held.get(&id).is_some_and(|known| known.is_open_in(&place));
                if producer.transaction_start.is_some() && !is_held {
                    let (topic, partition) = place;
                    let stray = Stray { topic, partition, epoch: producer.epoch, log: Arc::clone(log) };
                    strays.entry(id).or_default().push(stray);
                }
            }
        }
    }
    state.transactions.skip_ids_to(last_id);
    strays.into_iter().try_for_each(|(id, strays)| abort(state, id, &strays, now_ms))?;
    end_decided(state, topics, now_ms);
    Ok(())
}

/// Left as they are, the next commit of that producer would commit them, or nobody would ever end them.
fn abort(state: &mut State, id: i64, strays: &[Stray], now_ms: i64) -> Result<(), ResponseError> {
    let epoch = strays.iter().map(|stray| stray.epoch).max().unwrap_or(0);
    let turn = &mut Turn { store: &mut state.ledger, now_ms };
    let epoch = state.transactions.disown(turn, Producer { id, epoch })?;
    for Stray { topic, partition, log, .. } in strays {
        tracing::warn!(
            topic,
            partition,
            producer_id = id,
            "aborts a transaction that the journal has lost, as a power loss may leave it"
        );
        log.append_marker(id, epoch, Outcome::Abort, now_ms).map_err(|refused| {
            tracing::error!(topic, partition, %refused, "could not abort it");
            refused.error
        })?;
    }
    Ok(())
}

/// Ends what was decided. What the disk refuses is tried again later.
fn end_decided(state: &mut State, topics: &Topics, now_ms: i64) {
    for id in state.transactions.decided() {
        let Some(decided) = state.transactions.get(&id).cloned() else { continue };
        let Some(outcome) = decided.state.decided() else { continue };
        let marked = write_markers(topics, &decided, outcome, now_ms);
        // The journal is never synced before the logs that it speaks of.
        let completed = marked.and_then(|_durables| {
            state.transactions.completed(&mut Turn { store: &mut state.ledger, now_ms }, &id)
        });
        match completed {
            Ok(()) => {
                tracing::info!(id, ?outcome, "ended a transaction that was decided before the last stop")
            }
            Err(error) => {
                tracing::warn!(id, %error, "could not end a decided transaction: trying again");
                state.retry_ms = Some(now_ms + RETRY_MS);
            }
        }
    }
}

pub fn write_markers(
    topics: &Topics,
    decided: &Transaction,
    outcome: Outcome,
    now_ms: i64,
) -> Result<Vec<Durable>, ResponseError> {
    let mut durables = Vec::new();
    for (name, partition) in &decided.partitions {
        // A topic that was deleted meanwhile has no records to mark.
        let Some(topic) = topics.get(name) else { continue };
        let Some(log) =
            usize::try_from(*partition).ok().and_then(|partition| topic.partitions.get(partition))
        else {
            continue;
        };
        let marker = log.append_marker(decided.producer_id, decided.epoch, outcome, now_ms);
        let marker = marker.map_err(|refused| {
            tracing::warn!(topic = name, partition, %refused, "could not write a transaction marker");
            refused.error
        })?;
        durables.extend(marker.map(|appended| appended.durable));
    }
    Ok(durables)
}
