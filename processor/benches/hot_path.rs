//! What a raw record costs on its way into partial states, step by step, on one core: nanoseconds a record, beside a copy
//! of the same bytes. `cargo bench -p millrace-processor --bench hot_path`.

use millrace_processor::{
    admission::{AHEAD, Admission, Identity, Mark, Verdict},
    plan::{Plan, Raw},
    record::{self, Measured},
    settings::AdmissionSettings,
};
use millrace_schemas::{EventTime, QueryMetric, RecordId, ServiceId, Status, WorkspaceId};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use uuid::Uuid;

const RECORDS: u32 = 500_000;
/// About as many as a transaction of combine has.
const CHUNK: usize = 65_536;
/// And as many as are aggregated together.
const BLOCK: usize = 2_048;
/// The size that the peers were measured with.
const RECORD_BYTES: usize = 387;
const KEYS: u32 = 100;
const ROUNDS: usize = 5;
const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(7));
const BEGIN: EventTime = EventTime(1_800_000_000_000_000);

type Parsed = (Identity, Measured);

#[expect(clippy::print_stdout, reason = "the table is what the bench is for")]
fn main() {
    let payloads: Vec<Vec<u8>> = (0..RECORDS).map(payload).collect();
    let show = |what, took: Duration| {
        println!("{what:<44} {:>8.0} ns", took.as_secs_f64() * 1e9 / f64::from(RECORDS));
    };
    let mut copy = vec![0_u8; RECORD_BYTES * 2];
    show(
        "copy the bytes",
        best(|| payloads.iter().for_each(|p| black_box(&mut copy)[..p.len()].copy_from_slice(black_box(p)))),
    );
    show(
        "read the whole record (serde)",
        best(|| payloads.iter().for_each(|p| drop(black_box(QueryMetric::from_any_form(p))))),
    );
    show(
        "read the whole record",
        best(|| payloads.iter().for_each(|p| drop(black_box(QueryMetric::from_slice(p))))),
    );
    show(
        "read what the windows need",
        best(|| payloads.iter().for_each(|p| drop(black_box(record::parse(p))))),
    );

    let parsed: Vec<Parsed> = payloads.iter().map(|p| record::parse(p).expect("a record")).collect();
    show("judge, with the duplicate memory", best(|| judge(&parsed)));
    show("into columns", best(|| blocks(&parsed).for_each(|raw| drop(black_box(raw)))));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let plan = runtime.block_on(Plan::declare()).expect("the plan");
    let states = || {
        for chunk in parsed.chunks(CHUNK) {
            let mut partials = plan.partials().expect("accumulators");
            blocks(chunk).for_each(|mut raw| partials.add(&mut raw).expect("they are added"));
            black_box(partials.states().expect("partial states"));
        }
    };
    show("into columns and partial states", best(states));
}

/// The shortest of some rounds: what others do on the machine only adds.
fn best(mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn judge(parsed: &[Parsed]) {
    let mut admission = Admission::new(&AdmissionSettings::default());
    let marks: Vec<Mark> = parsed.iter().map(|(identity, _)| admission.mark(identity)).collect();
    for (at, mark) in marks.iter().enumerate() {
        if let Some(later) = marks.get(at + AHEAD) {
            admission.look_ahead(later);
        }
        assert_eq!(admission.judge_admitted(at as i64, mark), Verdict::Counted);
    }
}

fn blocks(parsed: &[Parsed]) -> impl Iterator<Item = Raw> {
    parsed.chunks(BLOCK).map(|block| {
        let mut raw = Raw::default();
        block.iter().for_each(|(identity, measured)| raw.push(identity, measured));
        raw
    })
}

/// As `millrace bench` makes them.
fn payload(number: u32) -> Vec<u8> {
    let mixed = number.wrapping_mul(2_654_435_761).rotate_left(13);
    let completed_at = EventTime(BEGIN.as_micros() + i64::from(number) * 150 - i64::from(RECORDS) * 150);
    let mut metric = QueryMetric {
        id: RecordId(Uuid::new_v4()),
        workspace_id: WORKSPACE,
        service_id: ServiceId(Uuid::from_u128(u128::from(mixed % KEYS) + 1)),
        query_text: "SELECT id, total FROM orders WHERE customer = $1".to_owned(),
        status: if mixed.is_multiple_of(50) { Status::Failed } else { Status::Success },
        duration_ms: Some(f64::from(mixed % 100_000) / 1000.0),
        rows_affected: Some(i64::from(mixed % 20)),
        error_message: None,
        started_at: EventTime(completed_at.as_micros() - i64::from(mixed % 100_000)),
        completed_at,
        tags: vec!["read".to_owned()],
    };
    let bytes = serde_json::to_vec(&metric).map_or(0, |bytes| bytes.len());
    metric.query_text.extend(std::iter::repeat_n('x', RECORD_BYTES.saturating_sub(bytes)));
    serde_json::to_vec(&metric).expect("a record can be written")
}
