//! A windows worker on the log in memory: what [`crate::stage::windows`] does around [`crate::window`].

use super::{
    super::frame::{self, FrameError},
    fault::Fault,
    log::{Transaction, index},
    sink::entries,
    site::{Ending, Site},
    truth,
};
use crate::{
    ledger::Tally,
    window::{Checkpoint, Moment, Windows},
};
use arrow::array::RecordBatch;
use millrace_log::NextOffset;
use millrace_schemas::{
    AggregateRow,
    ledger::{Entry, Minute},
    partial::{self, Header},
    progress::{Progress, VERSION},
};
use std::collections::BTreeMap;

struct Held {
    windows: Windows,
    /// Read up to here.
    position: i64,
    committed: i64,
    /// A lower bound of the end of the aggregates partition.
    aggregates_end: i64,
    rows_end: Option<i64>,
    epoch: u64,
    tally: Tally,
}

struct Stalled {
    partition: i32,
    transaction: Transaction,
    rows: Vec<AggregateRow>,
}

pub struct Worker {
    number: usize,
    held: BTreeMap<i32, Held>,
    stalled: Option<Stalled>,
}

impl Worker {
    pub fn new(number: usize) -> Self {
        Self { number, held: BTreeMap::new(), stalled: None }
    }

    pub fn die(&mut self) {
        *self = Self::new(self.number);
    }

    /// Takes in up to `frames` of each of its partitions, and writes what is due.
    pub fn step(&mut self, site: &mut Site<'_>, frames: usize, early: bool, ending: Ending) {
        if let Some(stalled) = self.stalled.take() {
            site.tell(format_args!("windows {} goes on", self.number));
            return self.end(site, stalled, ending);
        }
        self.follow_assignment(site);
        let partitions: Vec<i32> = self.held.keys().copied().collect();
        for partition in partitions {
            let Some(held) = self.held.get_mut(&partition) else { continue };
            let read = take_frames(site, partition, held, frames);
            let rows = emit(site, held, early);
            if rows.is_empty() && !early && held.windows.position() == held.committed {
                continue;
            }
            site.tell(format_args!(
                "windows {}: partition {partition}, {read} frames, {} rows",
                self.number,
                rows.len()
            ));
            rows.iter().for_each(|row| tell_row(site, row));
            let transaction = transaction(site, partition, held, &rows);
            self.end(site, Stalled { partition, transaction, rows }, ending);
            if self.stalled.is_some() {
                return;
            }
        }
    }

    fn end(&mut self, site: &mut Site<'_>, stalled: Stalled, ending: Ending) {
        if ending == Ending::Stalls {
            site.tell(format_args!("  stalls"));
            self.stalled = Some(stalled);
            return;
        }
        let Stalled { partition, transaction, rows } = stalled;
        let position = transaction.partials_offsets.get(&partition).map_or(0, |(next, _)| *next);
        let told = transaction.progress.first().map(|(_, bytes)| Progress::read(bytes).expect("its own"));
        let committed = site.end(transaction, ending);
        if committed {
            site.emitted.take(&entries(&rows));
            truth::check_told(site, told.as_ref());
        }
        if !committed || ending != Ending::Committed {
            return self.die();
        }
        if let Some(held) = self.held.get_mut(&partition) {
            held.aggregates_end += i64::try_from(rows.len()).expect("few");
            held.committed = position;
        }
    }

    fn follow_assignment(&mut self, site: &mut Site<'_>) {
        let assigned = site.log.windows.of(self.number);
        self.held.retain(|partition, held| assigned.contains(&(*partition, held.epoch)));
        for (partition, epoch) in assigned {
            self.held.entry(partition).or_insert_with(|| restore(site, partition, epoch));
        }
    }
}

fn take_frames(site: &Site<'_>, partition: i32, held: &mut Held, frames: usize) -> usize {
    let uncommitted = site.has(Fault::AbortedRead);
    let read = site.log.partials[index(partition)].read(held.position, uncommitted).take(frames);
    let mut count = 0;
    for (offset, frame) in read {
        if held.windows.is_full(site.rows_max) {
            break;
        }
        held.position = offset + 1;
        count += 1;
        if let Some((header, states)) = decode(site, frame) {
            let lateness = held.windows.apply(offset, &header, states.as_ref()).expect("it applies");
            held.tally.reach(NextOffset::after(offset));
            for (workspace, late) in lateness {
                let arrived = header.oldest_arrival.unwrap_or(site.now);
                let counts = held.tally.row(Some(workspace), Minute::of(arrived));
                counts.late += late.held;
                counts.backfilled += late.left;
            }
        }
    }
    count
}

/// Garbage is passed over; a frame of another version or layout is none of it.
fn decode(site: &Site<'_>, frame: &[u8]) -> Option<(Header, Option<RecordBatch>)> {
    match frame::decode(&site.engine.plan, frame) {
        Ok(frame) => Some(frame),
        Err(error @ (FrameError::Frame(partial::Error::Version(_)) | FrameError::Layout(_))) => {
            panic!("a frame of our own is refused: {error}")
        }
        Err(_) => None,
    }
}

fn emit(site: &Site<'_>, held: &mut Held, early: bool) -> Vec<AggregateRow> {
    let Site { now, rows_max, .. } = *site;
    let moment = Moment { now, early, rows_max, aggregates_end: held.aggregates_end };
    let outputs = site.engine.runtime.block_on(held.windows.outputs(moment));
    let mut rows = outputs.expect("it aggregates").rows;
    if site.has(Fault::RevisionNotRaised) {
        rows.iter_mut().for_each(|row| row.revision = (row.revision - 1).max(1));
    }
    rows
}

fn tell_row(site: &mut Site<'_>, row: &AggregateRow) {
    let AggregateRow { kind, window, window_start, service_id, revision, query_count, late_count, .. } = row;
    let service = service_id.0.as_u128();
    site.tell(format_args!(
        "  {kind:?} {window} {window_start} {service}: revision {revision}, {query_count} with {late_count} late"
    ));
    if site.orderly && *late_count > 0 {
        site.breaks(format!(
            "{late_count} records are late in {window} {window_start}, but all came in order"
        ));
    }
}

fn transaction(site: &Site<'_>, partition: i32, held: &mut Held, rows: &[AggregateRow]) -> Transaction {
    let position = held.windows.position();
    let ahead = i64::from(site.has(Fault::WindowsOffsetAhead));
    let mut checkpoint = held.windows.checkpoint(held.aggregates_end);
    if site.has(Fault::WatermarkForgotten) {
        checkpoint.watermark = None;
    }
    let mut sources = held.windows.sources();
    if site.has(Fault::ToldTooEarly) {
        sources.iter_mut().flatten().for_each(|source| source.emitted = source.taken);
    }
    let progress = Progress {
        version: VERSION,
        partition,
        partitions: i32::try_from(site.log.partials.len()).expect("few"),
        position,
        aggregates: held.rows_end,
        watermark: held.windows.watermark().current(),
        watermark_delay_ms: 0,
        late_horizon_ms: None,
        sources,
    };
    let encoded = |row| (partition, serde_json::to_vec(row).expect("plain data"));
    let told = held.tally.take().into_iter().map(|span| Entry::Windows(span.of("partials", partition)));
    Transaction {
        told: told.collect(),
        rows: rows.iter().map(encoded).collect(),
        progress: vec![(partition, serde_json::to_vec(&progress).expect("plain data"))],
        partials_offsets: BTreeMap::from([(partition, (position + ahead, checkpoint.encode()))]),
        partials_members: vec![(partition, held.epoch)],
        ..Transaction::default()
    }
}

fn restore(site: &mut Site<'_>, partition: i32, epoch: u64) -> Held {
    let aggregates_end = site.log.aggregates[index(partition)].end();
    let mut windows = Windows::new(site.engine.plan.clone(), &site.windows);
    let committed = site.log.partials_offsets.get(&partition).cloned();
    let next = committed.as_ref().map_or(0, |(next, _)| *next);
    if let Some((next, metadata)) = &committed {
        let checkpoint = Checkpoint::decode(metadata).expect("its own");
        windows.resume(&checkpoint, *next);
        let told =
            site.log.progress[index(partition)].from(0).filter_map(|(_, bytes)| Progress::read(bytes).ok());
        told.last().iter().for_each(|newest| windows.restore_progress(&newest.sources));
        restore_states(site, partition, &checkpoint, &mut windows);
        restore_rows(site, partition, &checkpoint, &mut windows);
    }
    let tally = Tally::new(NextOffset::exclusive(next));
    site.tell(format_args!("  partials partition {partition} from {next}, {} windows held", windows.slots()));
    Held { windows, position: next, committed: next, aggregates_end, rows_end: None, epoch, tally }
}

fn restore_states(site: &Site<'_>, partition: i32, checkpoint: &Checkpoint, windows: &mut Windows) {
    let to = windows.position();
    let frames = site.log.partials[index(partition)].from(checkpoint.rebuild_from);
    for (offset, frame) in
        frames.take_while(|(offset, _)| *offset < to && !site.has(Fault::StatesNotRestored))
    {
        if let Some((_, Some(states))) = decode(site, frame) {
            windows.restore_states(offset, &states).expect("it applies");
        }
    }
}

fn restore_rows(site: &Site<'_>, partition: i32, checkpoint: &Checkpoint, windows: &mut Windows) {
    let rows = site.log.aggregates[index(partition)].from(checkpoint.aggregates_from);
    for (offset, row) in rows.take_while(|_| !site.has(Fault::RowsNotRestored)) {
        if let Ok(row) = AggregateRow::read(row) {
            windows.restore_row(offset, &row);
        }
    }
}
