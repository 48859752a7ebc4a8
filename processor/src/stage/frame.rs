//! Partial states as frames of the `partials` topic: split by target partition and by size, as Arrow IPC streams.

mod states;

use crate::plan::{Key, Plan, PlanError, key_at};
use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take_record_batch,
    ipc::writer::StreamWriter,
};
use hashbrown::HashMap;
use millrace_schemas::{key, partial};

/// Larger frames are split; brokers take a megabyte by default.
const FRAME_BYTES_MAX: usize = 768 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Frame(#[from] partial::Error),
    #[error("the states in a frame")]
    States(#[from] states::Error),
    #[error("making an Arrow stream for a frame")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Layout(#[from] PlanError),
}

/// Sends every (workspace, service) to one partition, always the same: windows of a key meet there.
pub(super) struct Router {
    partitions: i32,
    known: HashMap<Key, i32>,
}

/// Keys whose partition is remembered; past that the memory starts anew.
const KNOWN_MAX: usize = 100_000;

impl Router {
    pub(super) fn new(partitions: i32) -> Self {
        Self { partitions, known: HashMap::new() }
    }

    pub(super) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The states of each partition, in the order of partitions; `None` for those that get nothing.
    pub(super) fn split(&mut self, states: &RecordBatch) -> Result<Vec<Option<RecordBatch>>, FrameError> {
        let count = usize::try_from(self.partitions).expect("a topic has at least one partition");
        let mut rows = vec![Vec::new(); count];
        for (row, number) in (0..states.num_rows()).zip(0_u32..) {
            let partition = self.partition(key_at(states, row));
            rows[usize::try_from(partition).expect("not negative")].push(number);
        }
        let part = |rows: Vec<u32>| {
            let wanted = !rows.is_empty();
            wanted.then(|| take_record_batch(states, &UInt32Array::from(rows))).transpose()
        };
        Ok(rows.into_iter().map(part).collect::<Result<_, _>>()?)
    }

    pub(super) fn partition(&mut self, key: Key) -> i32 {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let partitions = self.partitions;
        *self.known.entry(key).or_insert_with(|| {
            key::partition_of(key::record_key(key.workspace, key.service).as_bytes(), partitions)
        })
    }
}

/// The frames for one partition. Only the last tells the progress: until then the states before it are not late.
pub(super) fn encode(
    header: &partial::Header,
    states: Option<&RecordBatch>,
) -> Result<Vec<Vec<u8>>, FrameError> {
    let streams = states.map(streams).transpose()?.unwrap_or_default();
    let silent = partial::Header { progress: Vec::new(), ..header.clone() };
    let last = streams.len().saturating_sub(1);
    if streams.is_empty() {
        return Ok(vec![header.encode(&[])?]);
    }
    let frames = streams
        .iter()
        .enumerate()
        .map(|(index, stream)| if index == last { header } else { &silent }.encode(stream));
    Ok(frames.collect::<Result<_, _>>()?)
}

fn streams(states: &RecordBatch) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &states.schema())?;
    writer.write(states)?;
    let stream = writer.into_inner()?;
    if stream.len() <= FRAME_BYTES_MAX || states.num_rows() < 2 {
        return Ok(vec![stream]);
    }
    let half = states.num_rows() / 2;
    let mut halves = streams(&deep_slice(states, 0, half)?)?;
    halves.extend(streams(&deep_slice(states, half, states.num_rows() - half)?)?);
    Ok(halves)
}

/// A copy: a plain slice would be written with the whole of its buffers.
fn deep_slice(states: &RecordBatch, from: usize, rows: usize) -> Result<RecordBatch, FrameError> {
    let end = from + rows;
    let indices: UInt32Array =
        (from..end).map(|row| u32::try_from(row).expect("rows of one frame")).collect();
    Ok(take_record_batch(states, &indices)?)
}

/// Reads a frame; the states are checked against the plan's layout.
pub(super) fn decode(
    plan: &Plan,
    frame: &[u8],
) -> Result<(partial::Header, Option<RecordBatch>), FrameError> {
    let partial::Partial { header, states } = partial::Partial::decode(frame)?;
    if states.is_empty() {
        return Ok((header, None));
    }
    let batches = states::read(states, |schema| plan.check_layout(schema).map_err(FrameError::from))?;
    let states = arrow::compute::concat_batches(plan.state_schema(), &as_planned(plan, batches)?)?;
    Ok((header, Some(states)))
}

/// The same columns under the plan's own field names, which are no part of the format.
fn as_planned(plan: &Plan, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, FrameError> {
    let rename =
        |batch: RecordBatch| RecordBatch::try_new(plan.state_schema().clone(), batch.columns().to_vec());
    Ok(batches.into_iter().map(rename).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
