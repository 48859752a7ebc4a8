//! The auditor: works out by brute force, from the raw log alone, where every record belongs and what every window must
//! say, and compares.

use super::{
    log::{Log, Raw, index},
    producer::Truth,
    sink::Store,
    site::Site,
};
use crate::{aggregate, sink::Identity, sketch::Sketch};
use hashbrown::HashMap;
use millrace_schemas::{
    AggregateRow, QueryMetric, Status, Window,
    aggregate::{Kind, VERSION},
    dead_letter::Reason,
    key,
    ledger::{Counts, Entry},
    progress::Progress,
};
use std::collections::BTreeMap;

/// Where a record is, in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Counted,
    /// It has no outcome yet: taken, but in no window.
    Running,
    Duplicate,
    DeadLetter(Reason),
}

type Places = BTreeMap<(i32, i64), Place>;

/// Where each record of the log belongs.
pub fn places(site: &Site<'_>) -> Places {
    let mut places = Places::new();
    for (partition, topic) in (0_i32..).zip(&site.log.raw) {
        // By identity, the generation in which it was last seen.
        let mut seen = HashMap::new();
        for (offset, raw) in topic.from(0) {
            let place = match &raw.truth {
                Truth::NoRecord => Place::DeadLetter(Reason::Invalid),
                Truth::Record(metric) => refused(site, raw, metric).unwrap_or_else(|| {
                    let generation = offset / i64::from(site.dedupe_records);
                    let identity = (metric.workspace_id, metric.id, metric.status == Status::Running);
                    let repeats =
                        seen.insert(identity, generation).is_some_and(|last| last + 1 >= generation);
                    match metric.status {
                        _ if repeats => Place::Duplicate,
                        Status::Running => Place::Running,
                        _ => Place::Counted,
                    }
                }),
            };
            places.insert((partition, offset), place);
        }
    }
    places
}

fn refused(site: &Site<'_>, raw: &Raw, metric: &QueryMetric) -> Option<Place> {
    let created = site.created.get(&metric.workspace_id).copied();
    if created.is_none_or(|created| created > raw.append_time) {
        return Some(Place::DeadLetter(Reason::UnknownWorkspace));
    }
    let ahead = metric.completed_at > raw.append_time.saturating_add(raw.future_skew);
    ahead.then_some(Place::DeadLetter(Reason::Future))
}

/// The records in these places, each with its own.
fn records<'a>(log: &'a Log, places: &'a Places) -> impl Iterator<Item = (i32, i64, Place, &'a QueryMetric)> {
    places.iter().filter_map(|((partition, offset), place)| {
        let (_, raw) = log.raw[index(*partition)].from(*offset).next()?;
        match &raw.truth {
            Truth::Record(metric) => Some((*partition, *offset, *place, metric.as_ref())),
            Truth::NoRecord => None,
        }
    })
}

/// What the tables must hold, of the counted records.
fn windows<'a>(counted: impl Iterator<Item = &'a QueryMetric>) -> BTreeMap<Identity, AggregateRow> {
    let mut windows = BTreeMap::<Identity, (AggregateRow, Sketch)>::new();
    for metric in counted {
        for window in Window::ALL {
            let start = window.start_of(metric.completed_at);
            let id = Identity { window, workspace: metric.workspace_id, start, service: metric.service_id };
            let (row, sketch) = windows.entry(id).or_insert_with(|| (empty(id), Sketch::default()));
            count(row, metric);
            metric.duration_ms.into_iter().for_each(|duration| sketch.add(duration));
        }
    }
    let finished = windows.into_iter().map(|(id, (mut row, sketch))| {
        row.sketch = aggregate::encode_sketch(&sketch.to_bytes());
        aggregate::derive(&mut row, &sketch);
        (id, row)
    });
    finished.collect()
}

fn count(row: &mut AggregateRow, metric: &QueryMetric) {
    row.query_count += 1;
    match metric.status {
        Status::Success => row.success_count += 1,
        Status::Failed => row.failed_count += 1,
        Status::Timeout => row.timeout_count += 1,
        Status::Cancelled => row.cancelled_count += 1,
        Status::Running => panic!("it is not counted"),
    }
    if let Some(rows) = metric.rows_affected {
        row.total_rows_affected = Some(row.total_rows_affected.unwrap_or(0) + rows);
    }
    if let Some(duration) = metric.duration_ms {
        row.duration_count += 1;
        row.sum_duration_ms = Some(row.sum_duration_ms.unwrap_or(0.0) + duration);
        row.min_duration_ms = Some(row.min_duration_ms.map_or(duration, |min| min.min(duration)));
        row.max_duration_ms = Some(row.max_duration_ms.map_or(duration, |max| max.max(duration)));
    }
}

fn empty(id: Identity) -> AggregateRow {
    AggregateRow {
        version: VERSION,
        kind: Kind::Row,
        workspace_id: id.workspace,
        service_id: id.service,
        window: id.window,
        window_start: id.start,
        query_count: 0,
        success_count: 0,
        failed_count: 0,
        timeout_count: 0,
        cancelled_count: 0,
        error_rate: 0.0,
        total_rows_affected: None,
        duration_count: 0,
        sum_duration_ms: None,
        avg_duration_ms: None,
        min_duration_ms: None,
        max_duration_ms: None,
        p50_duration_ms: None,
        p95_duration_ms: None,
        p99_duration_ms: None,
        revision: 0,
        is_final: true,
        late_count: 0,
        position: 0,
        sketch: String::new(),
    }
}

/// Every record of the log is in exactly one place, and it is the right one.
pub fn check_places(site: &Site<'_>, places: &Places) -> Result<(), String> {
    let mut found = Places::new();
    for (_, judged) in site.log.judged.from(0) {
        let at = (judged.partition, judged.offset);
        if let Some(before) = found.insert(at, judged.place) {
            return Err(format!("record {at:?} is {before:?} and again {:?}", judged.place));
        }
    }
    let mut letters = Places::new();
    for (_, (letter, reason)) in site.log.letters.from(0) {
        letters.insert((letter.partition, letter.offset), Place::DeadLetter(*reason));
    }
    for (at, place) in places {
        let is_letter = matches!(place, Place::DeadLetter(_));
        if found.get(at) != Some(place) || letters.contains_key(at) != is_letter {
            return Err(format!(
                "record {at:?} belongs to {place:?}, but is in {:?} {:?}",
                found.get(at),
                letters.get(at)
            ));
        }
    }
    if found.len() == places.len() {
        Ok(())
    } else {
        Err(format!("{} records of {}", found.len(), places.len()))
    }
}

/// The ledger is told of every stretch once, in order, and its counts are those of the records.
pub fn check_ledger(site: &Site<'_>, places: &Places) -> Result<(), String> {
    let mut ends = BTreeMap::<(&str, i32), i64>::new();
    let mut told = Counts::default();
    for (_, entry) in site.log.ledger.from(0) {
        let (Entry::Combine(stretch) | Entry::Windows(stretch)) = entry else { continue };
        let end = ends.entry((&stretch.topic, stretch.partition)).or_default();
        if stretch.from != *end {
            return Err(format!("the ledger is told of {stretch:?}, but was told up to {end}"));
        }
        *end = stretch.to;
        stretch.rows.iter().for_each(|row| told += row.counts);
    }
    let mut expected = Counts { late: told.late, backfilled: told.backfilled, ..Counts::default() };
    for place in places.values() {
        expected.read += 1;
        match place {
            Place::Counted => expected.counted += 1,
            Place::Running => expected.running += 1,
            Place::Duplicate => expected.duplicate += 1,
            Place::DeadLetter(reason) => *expected.dead_lettered.of(*reason) += 1,
        }
    }
    if told != expected || told.late + told.backfilled > told.counted {
        return Err(format!("the ledger is told {told:?}, but it is {expected:?}"));
    }
    Ok(())
}

/// The tables say what the counted records come to.
pub fn check_rows(site: &Site<'_>, places: &Places, store: &Store) -> Result<(), String> {
    let counted = records(&site.log, places).filter(|(_, _, place, _)| *place == Place::Counted);
    let expected = windows(counted.map(|(_, _, _, metric)| metric));
    for (id, row) in &store.rows {
        let expected = expected.get(id).ok_or_else(|| format!("a row that no record is in: {row:?}"))?;
        // What depends on the schedule.
        let AggregateRow { revision, late_count, position, .. } = *row;
        let expected = AggregateRow { revision, late_count, position, ..expected.clone() };
        if *row != expected || late_count > row.query_count {
            return Err(format!("stored {row:?}\nbut the records come to {expected:?}"));
        }
    }
    match expected.keys().find(|id| !store.rows.contains_key(id)) {
        Some(missing) => Err(format!("no row of {missing:?}")),
        None => Ok(()),
    }
}

/// The archive holds what was taken, each record once, and each manifest begins where the one before ended.
pub fn check_archive(
    site: &Site<'_>,
    places: &Places,
    archive: &[super::archive::Archiver],
) -> Result<(), String> {
    for (partition, archiver) in (0_i32..).zip(archive) {
        let mut next = 0;
        let mut found = Vec::<i64>::new();
        for manifest in &archiver.manifests {
            if manifest.from.get() != next {
                return Err(format!(
                    "a manifest of partition {partition} begins at {}, not {next}",
                    manifest.from
                ));
            }
            next = manifest.to.get();
            found.extend(&manifest.offsets);
        }
        let expected: Vec<i64> = records(&site.log, places)
            .filter(|(of, _, place, _)| *of == partition && matches!(place, Place::Counted | Place::Running))
            .map(|(_, offset, _, _)| offset)
            .collect();
        if found != expected {
            return Err(format!("archived of partition {partition}: {found:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

/// What is told to be emitted is in rows: commit tokens rest on this.
pub fn check_told(site: &mut Site<'_>, told: Option<&Progress>) {
    let Some(told) = told else { return };
    let partitions = i32::try_from(site.log.partials.len()).expect("few");
    let places = places(site);
    let certain = records(&site.log, &places).filter(|(partition, offset, place, metric)| {
        let record_key = key::record_key(metric.workspace_id, metric.service_id);
        let emitted =
            told.sources.get(index(*partition)).copied().flatten().and_then(|source| source.emitted);
        *place == Place::Counted
            && emitted.is_some_and(|emitted| *offset < emitted)
            && key::partition_of(record_key.as_bytes(), partitions) == told.partition
    });
    let expected = windows(certain.map(|(_, _, _, metric)| metric));
    let lacks = |(id, row): &(&Identity, &AggregateRow)| {
        site.emitted.rows.get(id).is_none_or(|emitted| emitted.query_count < row.query_count)
    };
    if let Some((id, row)) = expected.iter().find(lacks) {
        let emitted = site.emitted.rows.get(id).map(|row| row.query_count);
        let law = format!(
            "{} of {id:?} are told to be emitted, {emitted:?} are: {:?}",
            row.query_count, told.sources
        );
        site.breaks(law);
    }
}

/// Everything is told to be in rows, when everything is.
pub fn check_all_told(site: &Site<'_>) -> Result<(), String> {
    for (partition, topic) in site.log.progress.iter().enumerate() {
        let newest = topic.from(0).filter_map(|(_, bytes)| Progress::read(bytes).ok()).last();
        let Some(newest) = newest else { return Err(format!("partition {partition} told nothing")) };
        let told: BTreeMap<i32, i64> = (0_i32..)
            .zip(&newest.sources)
            .filter_map(|(source, told)| Some((source, told.as_ref()?.emitted?)))
            .filter(|(_, emitted)| *emitted > 0)
            .collect();
        let committed = site.log.raw_offsets.iter().filter(|(_, next)| **next > 0);
        if !told.iter().eq(committed) {
            return Err(format!(
                "{told:?} is told by partition {partition}; {:?} is combined",
                site.log.raw_offsets
            ));
        }
    }
    Ok(())
}
