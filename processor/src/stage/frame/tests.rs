use super::*;
use crate::{
    admission::Identity,
    plan::{Raw, totals},
    record::Measured,
    sketch::PerMille,
};
use millrace_schemas::{EventTime, RecordId, ServiceId, Status, WorkspaceId};
use uuid::Uuid;

/// As version 1 wrote it: the log holds such frames when a processor is upgraded.
const GOLDEN: &[u8] = include_bytes!("../../../../schemas/golden/partial-1.bin");

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn states(plan: &Plan) -> RecordBatch {
    let mut raw = Raw::default();
    let statuses = [Status::Success, Status::Failed, Status::Timeout, Status::Cancelled];
    for (number, status) in (0_u32..).zip(statuses) {
        let identity = Identity {
            workspace: WorkspaceId(Uuid::from_u128(1)),
            id: RecordId(Uuid::nil()),
            completed_at: EventTime(1_767_225_600_000_000),
            running: false,
        };
        let measured = Measured {
            service: ServiceId(Uuid::from_u128(2)),
            status,
            duration_ms: (number > 0).then(|| f64::from(number)),
            rows_affected: (number > 1).then_some(3),
        };
        raw.push(&identity, &measured);
    }
    plan.partial(&mut raw).expect("it aggregates")
}

#[test]
fn the_first_version_is_read_and_comes_to_the_same() {
    let plan = runtime().block_on(Plan::declare()).expect("it can be planned");
    let (header, read) = decode(&plan, GOLDEN).expect("a frame");
    assert_eq!((header.sources, header.progress.len()), (4, 2));
    let result = |states: RecordBatch| {
        totals(&runtime().block_on(plan.finish(&[states])).expect("it aggregates")).expect("readable")
    };
    let found = result(read.expect("states"));
    assert_eq!(found, result(states(&plan)));
    let row = &found[0];
    assert_eq!((row.query_count, row.failed_count, row.total_rows_affected), (4, 1, Some(6)));
    assert_eq!((row.min_duration_ms, row.max_duration_ms), (Some(1.0), Some(3.0)));
    assert_eq!(row.sketch.quantile(PerMille(0)).map(f64::round), Some(1.0));
}

#[test]
fn states_of_another_layout_are_refused_by_name() {
    let plan = runtime().block_on(Plan::declare()).expect("it can be planned");
    let header = partial::Header { sources: 1, progress: Vec::new(), oldest_arrival: None };
    let fewer = states(&plan).project(&[0, 1]).expect("two columns");
    let frame = &encode(&header, Some(&fewer)).expect("it encodes")[0];
    let error = decode(&plan, frame).expect_err("another layout");
    assert!(matches!(error, FrameError::Layout(_)), "{error}");
    assert!(
        error.to_string().starts_with("partial states of another layout: Int64, FixedSizeBinary(16)"),
        "{error}"
    );
}

#[test]
fn every_cut_is_an_error_or_a_frame_but_never_a_panic() {
    let plan = runtime().block_on(Plan::declare()).expect("it can be planned");
    for cut in 0..GOLDEN.len() {
        if let Ok((header, _)) = decode(&plan, &GOLDEN[..cut]) {
            assert_eq!(header.sources, 4, "cut at {cut}");
        }
    }
}

/// Garbage must not stop a partition; some of these Arrow's reader panics at.
#[test]
fn damaged_states_are_an_error_or_a_frame_but_never_a_panic() {
    let plan = runtime().block_on(Plan::declare()).expect("it can be planned");
    // Found by fuzzing: a column of no type.
    let found = decode(&plan, include_bytes!("../../../../fuzz/seeds/frame/no-type"));
    assert!(matches!(found, Err(FrameError::States(states::Error::Damaged))), "{found:?}");
    for at in (0..GOLDEN.len()).step_by(3) {
        let mut damaged = GOLDEN.to_vec();
        damaged[at] ^= 0x55;
        if let Ok((_, Some(states))) = decode(&plan, &damaged) {
            assert_eq!(states.schema(), *plan.state_schema(), "changed at {at}");
        }
    }
}

#[test]
fn a_message_longer_than_its_stream_or_compressed_is_refused_unread() {
    let never = |_: &arrow::datatypes::Schema| panic!("it is not read");
    let huge = [[0xff; 4], [0xff, 0xff, 0xff, 0x7f]].concat();
    assert!(matches!(states::read(&huge, never), Err(states::Error::Damaged)));
    let plan = runtime().block_on(Plan::declare()).expect("it can be planned");
    let states = states(&plan);
    let compressed = arrow::ipc::writer::IpcWriteOptions::default()
        .try_with_compression(Some(arrow::ipc::CompressionType::ZSTD))
        .expect("it is built in");
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &states.schema(), compressed).expect("it is written");
    writer.write(&states).expect("it is written");
    let stream = writer.into_inner().expect("it is written");
    assert!(matches!(states::read(&stream, never), Err(states::Error::Damaged)));
}
