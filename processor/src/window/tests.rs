//! A small simulation: random events in random chunks, a log of frames, a log of rows, crashes between and inside
//! transactions, and a store that merges as the sink does. Whatever happens, the store ends with the brute-force totals.

use super::*;
use crate::{admission::Identity, aggregate, plan::Raw, record::Measured};
use millrace_schemas::{RecordId, ServiceId, Status, WorkspaceId, partial::Progress};
use proptest::prelude::*;
use std::sync::LazyLock;
use uuid::Uuid;

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
static PLAN: LazyLock<Plan> = LazyLock::new(|| RUNTIME.block_on(Plan::declare()).expect("plans"));

const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
/// The wall clock, far after all events: it only moves the watermark when all sources are idle.
const NOW: EventTime = EventTime(10_000_000_000);

type Identified = (Window, EventTime, ServiceId);
type Store = BTreeMap<Identified, AggregateRow>;

#[derive(Clone, Copy, Debug)]
struct Event {
    at_s: i64,
    service: u8,
    duration_ms: f64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Events combined in one transaction of one source.
    Chunk(i32, Vec<Event>),
    /// A source falls idle.
    Idle(i32),
    /// The windows stage writes its outputs; `early` ones too or not.
    Emit(bool),
    /// The windows stage dies with what it has not written, and starts again from the log.
    Crash,
}

fn settings() -> WindowSettings {
    WindowSettings { early_rows: 3, ..WindowSettings::default() }
}

struct Simulation {
    windows: Windows,
    frames: Vec<(Header, Option<RecordBatch>)>,
    rows: Vec<AggregateRow>,
    /// Of each frame that had any.
    late: Vec<Late>,
    /// Committed: next offset, and its checkpoint.
    committed: (i64, Checkpoint),
    /// Told with the commit.
    told: Vec<Option<progress::Source>>,
    /// The events of each source, in the order of their offsets.
    sources: [Vec<Event>; 2],
    rows_max: usize,
}

impl Simulation {
    fn new() -> Self {
        let checkpoint =
            Checkpoint { watermark: None, rebuild_from: 0, aggregates_from: 0, sources: Vec::new() };
        let windows = Windows::new(PLAN.clone(), &settings());
        Self {
            windows,
            frames: Vec::new(),
            rows: Vec::new(),
            late: Vec::new(),
            committed: (0, checkpoint),
            told: Vec::new(),
            sources: [Vec::new(), Vec::new()],
            rows_max: usize::MAX,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Chunk(source, events) => self.frame(*source, events, false),
            Step::Idle(source) => self.frame(*source, &[], true),
            Step::Emit(early) => self.emit(*early),
            Step::Crash => self.crash(),
        }
    }

    fn frame(&mut self, partition: i32, events: &[Event], idle: bool) {
        let max_event_time = events.iter().map(|event| EventTime(event.at_s * 1_000_000)).max();
        let source = &mut self.sources[usize::try_from(partition).expect("not negative")];
        source.extend(events);
        let next_offset = offset_of(source.len());
        let progress = Progress { partition, next_offset, max_event_time, idle };
        let header = Header { sources: 2, progress: vec![progress], oldest_arrival: None };
        let states = (!events.is_empty()).then(|| PLAN.partial(&mut raw(events)).expect("partial"));
        let offset = offset_of(self.frames.len());
        let lateness = self.windows.apply(offset, &header, states.as_ref()).expect("applies");
        self.late.extend(lateness.values());
        self.frames.push((header, states));
    }

    fn emit(&mut self, early: bool) {
        let (rows_max, aggregates_end) = (self.rows_max, offset_of(self.rows.len()));
        let moment = Moment { now: NOW, early, rows_max, aggregates_end };
        let outputs = RUNTIME.block_on(self.windows.outputs(moment)).expect("outputs");
        self.rows.extend(outputs.rows);
        self.committed = (self.windows.position(), self.windows.checkpoint(offset_of(self.rows.len())));
        self.told = self.windows.sources();
    }

    /// Until there is nothing left to write.
    fn settle(&mut self) {
        let mut before = usize::MAX;
        while self.rows.len() != before {
            before = self.rows.len();
            self.emit(true);
        }
    }

    fn crash(&mut self) {
        let (next, checkpoint) = self.committed.clone();
        let checkpoint = Checkpoint::decode(&checkpoint.encode()).expect("own checkpoint");
        self.windows = Windows::new(PLAN.clone(), &settings());
        self.windows.resume(&checkpoint, next);
        self.windows.restore_progress(&self.told);
        for offset in checkpoint.rebuild_from..next {
            if let (_, Some(states)) = &self.frames[index_of(offset)] {
                self.windows.restore_states(offset, states).expect("restores");
            }
        }
        for (offset, row) in (0..).zip(&self.rows).skip(index_of(checkpoint.aggregates_from)) {
            self.windows.restore_row(offset, row);
        }
        for offset in next..offset_of(self.frames.len()) {
            let (header, states) = &self.frames[index_of(offset)];
            self.windows.apply(offset, header, states.as_ref()).expect("applies");
        }
    }

    /// The events that are in rows for certain, if what was told is true.
    fn certain(&self) -> Vec<Event> {
        let emitted = |number: usize| self.told.get(number).copied().flatten()?.emitted;
        let events = self.sources.iter().enumerate();
        events
            .flat_map(|(number, events)| &events[..index_of(emitted(number).unwrap_or(0))])
            .copied()
            .collect()
    }

    /// What the sink makes of the rows: the higher revision replaces, deltas are merged.
    fn store(&self) -> Store {
        let mut store = Store::new();
        for row in &self.rows {
            let id = (row.window, row.window_start, row.service_id);
            match (row.kind, store.get_mut(&id)) {
                (Kind::Delta, Some(stored)) => aggregate::merge(stored, row).expect("own sketches"),
                (Kind::Row, Some(stored)) => {
                    assert!(row.revision > stored.revision, "{row:?} after {stored:?}");
                    *stored = row.clone();
                }
                (_, None) => {
                    store.insert(id, row.clone());
                }
            }
        }
        store
    }
}

fn offset_of(index: usize) -> i64 {
    i64::try_from(index).expect("small")
}

fn index_of(offset: i64) -> usize {
    usize::try_from(offset).expect("not negative")
}

fn raw(events: &[Event]) -> Raw {
    let mut raw = Raw::default();
    for event in events {
        let completed_at = EventTime(event.at_s * 1_000_000);
        let identity =
            Identity { workspace: WORKSPACE, id: RecordId(Uuid::nil()), completed_at, running: false };
        let service = service(event.service);
        let measured = Measured {
            service,
            status: Status::Success,
            duration_ms: Some(event.duration_ms),
            rows_affected: None,
        };
        raw.push(&identity, &measured);
    }
    raw
}

fn service(number: u8) -> ServiceId {
    ServiceId(Uuid::from_u128(u128::from(number)))
}

fn event() -> impl Strategy<Value = Event> {
    (0_i64..900, 0_u8..3, 0_u32..1000).prop_map(|(at_s, service, ms)| Event {
        at_s,
        service,
        duration_ms: f64::from(ms),
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_i32..2, prop::collection::vec(event(), 1..5)).prop_map(|(source, events)| Step::Chunk(source, events)),
        1 => (0_i32..2).prop_map(Step::Idle),
        3 => any::<bool>().prop_map(Step::Emit),
        2 => Just(Step::Crash),
    ]
}

fn brute_force<'a>(events: impl Iterator<Item = &'a Event>) -> BTreeMap<Identified, (i64, f64)> {
    let mut expected = BTreeMap::new();
    for event in events {
        for window in Window::ALL {
            let id = (window, window.start_of(EventTime(event.at_s * 1_000_000)), service(event.service));
            let entry: &mut (i64, f64) = expected.entry(id).or_default();
            entry.0 += 1;
            entry.1 = entry.1.max(event.duration_ms);
        }
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_chunks_lateness_and_crashes_give_the_same_final_windows(
        mut steps in prop::collection::vec(step(), 1..24), rows_max in prop_oneof![1_usize..6, Just(usize::MAX)],
    ) {
        // In the end all sources fall idle and everything closes.
        steps.extend([Step::Idle(0), Step::Idle(1), Step::Crash, Step::Emit(false), Step::Crash, Step::Emit(true)]);
        let mut simulation = Simulation { rows_max, ..Simulation::new() };
        steps.iter().for_each(|step| simulation.step(step));
        simulation.settle();
        let late = simulation.store().values().map(|row| row.late_count).collect::<Vec<_>>();
        simulation.crash();
        simulation.settle();
        prop_assert_eq!(late, simulation.store().values().map(|row| row.late_count).collect::<Vec<_>>());
        let events = steps.iter().flat_map(|step| match step {
            Step::Chunk(_, events) => events.as_slice(),
            _ => &[],
        });
        let stored = simulation.store();
        let found: BTreeMap<_, _> = stored
            .iter()
            .map(|(id, row)| (*id, (row.query_count, row.max_duration_ms.expect("all have durations"))))
            .collect();
        prop_assert_eq!(found, brute_force(events));
        prop_assert!(stored.values().all(|row| row.is_final));
        prop_assert_eq!(simulation.certain().len(), simulation.sources.iter().map(Vec::len).sum::<usize>());
    }

    /// Commit tokens rest on this.
    #[test]
    fn what_is_told_to_be_emitted_is_in_rows(
        mut steps in prop::collection::vec(step(), 1..24), rows_max in prop_oneof![1_usize..6, Just(usize::MAX)],
    ) {
        steps.extend([Step::Emit(true), Step::Crash, Step::Emit(true)]);
        let mut simulation = Simulation { rows_max, ..Simulation::new() };
        for step in &steps {
            simulation.step(step);
            let stored = simulation.store();
            for (id, (count, _)) in brute_force(simulation.certain().iter()) {
                prop_assert!(stored.get(&id).is_some_and(|row| row.query_count >= count), "{id:?} after {step:?}");
            }
        }
    }
}

fn chunk(at_s: i64) -> Step {
    Step::Chunk(0, vec![Event { at_s, service: 1, duration_ms: 1.0 }])
}

fn run(steps: &[Step]) -> Vec<AggregateRow> {
    let mut simulation = Simulation::new();
    simulation.step(&Step::Idle(1));
    steps.iter().for_each(|step| simulation.step(step));
    simulation.rows.into_iter().filter(|row| row.window == Window::FiveSeconds).collect()
}

#[test]
fn a_window_closes_once_and_a_late_record_makes_the_next_revision() {
    let rows = run(&[
        chunk(1),
        Step::Emit(false),
        chunk(20),
        Step::Emit(false),
        Step::Emit(false),
        chunk(2),
        Step::Emit(false),
    ]);
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.window_start.0, row.query_count, row.revision, row.is_final, row.late_count))
        .collect();
    assert_eq!(seen, [(0, 1, 1, true, 0), (0, 2, 2, true, 1)]);
}

/// Whatever the watermark has jumped over meanwhile.
#[test]
fn however_many_keys_close_at_once_a_transaction_has_a_limit_and_each_is_final_once_over_restarts() {
    let mut simulation = Simulation { rows_max: 3, ..Simulation::new() };
    let event = |service| Event { at_s: 1, service, duration_ms: 1.0 };
    simulation.step(&Step::Idle(1));
    simulation.step(&Step::Chunk(0, (0..10).map(event).collect()));
    simulation.step(&Step::Emit(true));
    simulation.step(&chunk(10_000));
    for _ in 0..20 {
        let before = simulation.rows.len();
        simulation.step(&Step::Emit(false));
        assert!(simulation.rows.len() - before <= 3, "{} rows at once", simulation.rows.len() - before);
        simulation.step(&Step::Crash);
    }
    for window in Window::ALL {
        let of_window = |row: &&AggregateRow| row.window == window && row.window_start.0 == 0 && row.is_final;
        let rows = simulation.rows.iter().filter(of_window);
        let mut services: Vec<_> = rows.map(|row| row.service_id).collect();
        services.sort_unstable();
        assert_eq!(services, (0..10).map(service).collect::<Vec<_>>(), "{window}");
    }
    assert_eq!(simulation.windows.slots(), 3, "those of the last chunk");
}

/// How many records came late is in the rows alone: it must not get lost while others are waiting for their turn.
#[test]
fn rows_of_late_records_are_in_the_next_transaction_however_many_others_wait() {
    let mut simulation = Simulation { rows_max: 1, ..Simulation::new() };
    let chunk_of = |at_s, services: std::ops::Range<u8>| {
        Step::Chunk(0, services.map(|service| Event { at_s, service, duration_ms: 1.0 }).collect())
    };
    simulation.step(&Step::Idle(1));
    simulation.step(&chunk_of(1, 0..5));
    simulation.step(&chunk(20));
    simulation.step(&Step::Emit(false));
    simulation.step(&chunk_of(2, 3..5));
    simulation.step(&Step::Emit(false));
    simulation.step(&Step::Crash);
    simulation.settle();
    let late = |row: &&AggregateRow| row.window == Window::FiveSeconds && row.window_start.0 == 0;
    let store = simulation.store();
    let late: Vec<_> = store.values().filter(late).map(|row| (row.query_count, row.late_count)).collect();
    assert_eq!(late, [(1, 0), (1, 0), (1, 0), (2, 1), (2, 1)]);
    assert!(simulation.windows.is_full(0) && !simulation.windows.is_full(1));
}

#[test]
fn an_open_window_is_emitted_early_only_when_it_changed() {
    let rows = run(&[chunk(1), Step::Emit(true), Step::Emit(true), chunk(2), Step::Emit(true)]);
    let seen: Vec<_> = rows.iter().map(|row| (row.query_count, row.revision, row.is_final)).collect();
    assert_eq!(seen, [(1, 1, false), (2, 2, false)]);
}

#[test]
fn beyond_the_horizon_a_record_becomes_a_delta() {
    let rows = run(&[chunk(1), chunk(100), Step::Emit(false), chunk(3), Step::Emit(false)]);
    let seen: Vec<_> = rows.iter().map(|row| (row.kind, row.window_start.0, row.query_count)).collect();
    assert_eq!(seen[0], (Kind::Row, 0, 1));
    assert_eq!(seen.last(), Some(&(Kind::Delta, 0, 1)));
}

#[test]
fn tells_of_a_frame_how_many_are_late_and_how_many_too_late_to_be_held() {
    let mut simulation = Simulation::new();
    let steps =
        [Step::Idle(1), chunk(1), chunk(20), Step::Emit(false), chunk(2), chunk(100), Step::Emit(false)];
    steps.iter().for_each(|step| simulation.step(step));
    assert_eq!(simulation.late, [Late { held: 1, left: 0 }]);
    let both = [3, 95].map(|at_s| Event { at_s, service: 1, duration_ms: 1.0 });
    simulation.step(&Step::Chunk(0, both.to_vec()));
    assert_eq!(
        simulation.late[1..],
        [Late { held: 0, left: 1 }],
        "95 is not 2 s behind 100 by a whole window"
    );
    simulation.step(&chunk(94));
    assert_eq!(simulation.late[2..], [Late { held: 1, left: 0 }]);
}
