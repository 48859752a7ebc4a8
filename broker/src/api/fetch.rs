//! Fetch: reads what there is, or waits until there is enough or the time is over.
//!
//! Sessions are declined: every request names all its partitions. Writing the answer is `fetch/answer.rs`'s.

mod answer;
mod wanted;

use super::{Api, call::Call, call::Head};
use crate::{
    log::{Chunk, Isolation},
    net::{Answer, Close, Pending},
};
use kafka_protocol::{ResponseError, messages::FetchRequest};
use std::{sync::Arc, time::Duration};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use wanted::{Topic, Wanted, resolve};

/// The most bytes of records in an answer, as in Kafka (fetch.max.bytes of the broker).
const ANSWER_BYTES_MAX: usize = 55 << 20;
/// What an answer may hold when the budget for all is used up.
const ANSWER_BYTES_MIN: usize = 1 << 20;
/// How long to let records gather when a client waits for more than a byte, instead of reading at each that comes.
const GATHER: Duration = Duration::from_millis(5);

pub fn begin(call: Call) -> Result<Pending, Close> {
    let request: FetchRequest = call.decode()?;
    let (head, api) = (call.head(), call.api);
    let answering = Box::pin(async move { fetch(&api, head, request).await.map(Some) });
    Ok(Pending { answering, overlaps: false })
}

/// How much is read, and how.
struct Bounds {
    /// What the client allows.
    max_bytes: usize,
    min_bytes: usize,
    until: Instant,
    isolation: Isolation,
}

async fn fetch(api: &Arc<Api>, head: Head, request: FetchRequest) -> Result<Answer, Close> {
    // 0 begins a session, -1 is without one; all else continues a session, and there is none.
    if !matches!(request.session_epoch, -1 | 0) {
        return answer::refuse(head, ResponseError::FetchSessionIdNotFound);
    }
    let isolation =
        if request.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(ANSWER_BYTES_MAX);
    let bounds = Bounds {
        max_bytes,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        until: Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        isolation,
    };
    let topics = resolve(api, head.version, request.topics);
    let (reads, held) = gather(api, &topics, &bounds).await;
    let answer = answer::write(head, &topics, &reads, isolation)?;
    Ok(Answer { held, ..answer })
}

type Read = Result<Chunk, ResponseError>;
/// An answer's share of the budget.
type Held = Option<OwnedSemaphorePermit>;

/// Reads until there is enough, an error, or no more time: an answer for each partition.
async fn gather(api: &Api, topics: &[Topic], bounds: &Bounds) -> (Vec<Read>, Held) {
    let wanted: Vec<&Wanted> = topics.iter().flat_map(|topic| &topic.partitions).collect();
    let mut changes: Vec<_> = wanted.iter().filter_map(|one| one.log().map(|log| log.changes())).collect();
    loop {
        changes.iter_mut().for_each(|change| change.mark_unchanged());
        let (reads, held) = read_all(api, &wanted, bounds);
        let bytes = bytes_in(&reads);
        let done = bytes >= bounds.min_bytes || reads.iter().any(Result::is_err) || wanted.is_empty();
        if done || bounds.until <= Instant::now() {
            return (reads, held);
        }
        drop((reads, held));
        let waits = async {
            wanted::changed(&wanted, &mut changes, bounds.isolation).await;
            if bounds.min_bytes > 1 {
                tokio::time::sleep(GATHER).await;
            }
        };
        tokio::select! {
            () = waits => {}
            () = tokio::time::sleep_until(bounds.until) => {}
            () = api.stop.cancelled() => return read_all(api, &wanted, bounds),
        }
    }
}

fn bytes_in(reads: &[Read]) -> usize {
    reads.iter().flatten().map(|chunk| chunk.records.len()).sum()
}

/// Reads within the budget for all answers: less when many large ones are under way, but never nothing.
fn read_all(api: &Api, wanted: &[&Wanted], bounds: &Bounds) -> (Vec<Read>, Held) {
    let permits = u32::try_from(bounds.max_bytes).expect("an answer is at most 55 MiB");
    let Ok(mut budget) = Arc::clone(&api.answers).try_acquire_many_owned(permits) else {
        return (read_up_to(api, wanted, bounds, bounds.max_bytes.min(ANSWER_BYTES_MIN)), None);
    };
    let reads = read_up_to(api, wanted, bounds, bounds.max_bytes);
    let held = budget.split(bytes_in(&reads).min(bounds.max_bytes));
    (reads, held)
}

/// Kafka's rule: the first partition that has anything gives at least one batch, however large.
fn read_up_to(api: &Api, wanted: &[&Wanted], bounds: &Bounds, max_bytes: usize) -> Vec<Read> {
    let mut reads: Vec<Read> = wanted.iter().map(|_| Ok(Chunk::default())).collect();
    let first = api.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (mut left, mut empty) = (max_bytes, true);
    for step in 0..wanted.len() {
        let index = first.wrapping_add(step) % wanted.len();
        let read = wanted[index].read(left.min(wanted[index].max_bytes), empty, bounds.isolation);
        if let Ok(chunk) = &read {
            left = left.saturating_sub(chunk.records.len());
            empty &= chunk.records.is_empty();
        }
        reads[index] = read;
    }
    reads
}
