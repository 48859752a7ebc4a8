//! Against Parquet files in a folder, of the layout that the processor writes.

use super::*;
use datafusion::arrow::{
    array::{
        ArrayRef, Float64Array, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
        TimestampMicrosecondArray,
    },
    error::ArrowError,
};
use millrace_schemas::RecordId;
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use std::{fs, path::Path};
use uuid::Uuid;

const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(7));

fn ids(numbers: &[i64]) -> ArrayRef {
    let id = |number: &i64| Uuid::from_u128(u128::try_from(*number).expect("positive")).to_string();
    Arc::new(numbers.iter().map(|number| Some(id(number))).collect::<StringArray>())
}

fn times(numbers: &[i64]) -> ArrayRef {
    let micros = numbers.iter().map(|number| number * 1_000_000);
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn texts(text: Option<&str>, count: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![text; count]))
}

fn tags(count: usize) -> ArrayRef {
    let mut tags = ListBuilder::new(StringBuilder::new());
    (0..count).for_each(|_| tags.append_value([Some("a"), Some("b")]));
    Arc::new(tags.finish())
}

/// A record for each number, which is its id, its offset and its time in seconds.
fn batch(workspace: WorkspaceId, numbers: &[i64]) -> Result<RecordBatch, ArrowError> {
    let count = numbers.len();
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids(numbers), false),
        ("workspace_id", texts(Some(&workspace.to_string()), count), false),
        ("service_id", ids(numbers), false),
        ("query_text", texts(Some("SELECT 1"), count), false),
        ("status", texts(Some("timeout"), count), false),
        ("duration_ms", Arc::new(Float64Array::from(vec![Some(0.5); count])), true),
        ("rows_affected", Arc::new(Int64Array::from(vec![None; count])), true),
        ("error_message", texts(None, count), true),
        ("started_at", times(numbers), false),
        ("completed_at", times(numbers), false),
        ("ingest_time", times(numbers), false),
        ("tags", tags(count), false),
        ("source_partition", Arc::new(Int32Array::from(vec![0; count])), false),
        ("source_offset", Arc::new(Int64Array::from(numbers.to_vec())), false),
    ])
}

fn write(folder: &Path, place: &str, workspace: WorkspaceId, numbers: &[i64]) {
    let path = folder.join(format!("workspace={WORKSPACE}/{place}.parquet"));
    fs::create_dir_all(path.parent().expect("a folder")).expect("makes the folder");
    let batch = batch(workspace, numbers).expect("a batch");
    let zstd = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let file = fs::File::create(path).expect("makes the file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(zstd)).expect("a writer");
    writer.write(&batch).expect("writes");
    writer.close().expect("closes");
}

fn open(folder: &Path, files_max: usize) -> Archive {
    Archive::open(Url::from_directory_path(folder).expect("a path").as_str(), files_max).expect("opens")
}

async fn newest(archive: &Archive, count: usize, until: Option<i64>) -> (Vec<i64>, bool) {
    let until = until.map(|second| EventTime(second * 1_000_000));
    let found = archive.newest(Wanted { workspace: WORKSPACE, count, until }).await.expect("reads");
    (found.records.iter().map(|record| record.arrival.offset).collect(), found.complete)
}

#[tokio::test]
async fn an_empty_archive_has_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(newest(&open(folder.path(), 10), 5, None).await, (vec![], true));
    assert_eq!(newest(&open(&folder.path().join("none"), 10), 5, None).await, (vec![], true));
}

#[tokio::test]
async fn the_newest_come_first_and_a_limit_on_files_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "date=2026-01-09/hour=23/m-0-1-3", WORKSPACE, &[1, 2, 3]);
    write(folder.path(), "date=2026-01-10/hour=00/m-0-4-5", WORKSPACE, &[4, 5]);
    write(folder.path(), "date=2026-01-10/hour=02/m-0-6-8", WORKSPACE, &[6, 8, 7]);
    fs::write(folder.path().join(format!("workspace={WORKSPACE}/date=2026-01-10/hour=02/unfinished")), "x")
        .expect("writes");
    let archive = open(folder.path(), 10);
    assert_eq!(newest(&archive, 2, None).await, (vec![8, 7], true));
    assert_eq!(newest(&archive, 100, None).await, (vec![8, 7, 6, 5, 4, 3, 2, 1], true));
    assert_eq!(newest(&archive, 2, Some(5)).await, (vec![5, 4], true));
    assert_eq!(newest(&open(folder.path(), 1), 100, None).await, (vec![8, 7, 6], false));
    assert_eq!(
        newest(&open(folder.path(), 1), 2, None).await,
        (vec![8, 7], false),
        "a file written later was not opened"
    );
    assert!(newest(&open(folder.path(), 3), 100, None).await.1);
}

#[tokio::test]
async fn a_record_in_two_files_is_found_once() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "date=2026-01-10/hour=02/m-0-1-3", WORKSPACE, &[1, 2]);
    write(folder.path(), "date=2026-01-10/hour=02/m-0-1-4", WORKSPACE, &[1, 2, 3]);
    assert_eq!(newest(&open(folder.path(), 10), 9, None).await, (vec![3, 2, 1], true));
}

#[tokio::test]
async fn records_of_another_workspace_are_never_read() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "date=2026-01-10/hour=02/m-0-1-1", WorkspaceId(Uuid::from_u128(8)), &[1]);
    assert_eq!(newest(&open(folder.path(), 10), 5, None).await.0, [0; 0]);
}

#[tokio::test]
async fn records_come_back_as_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "date=2026-01-10/hour=02/m-0-5-5", WORKSPACE, &[5]);
    let found = open(folder.path(), 10).newest(Wanted { workspace: WORKSPACE, count: 1, until: None }).await;
    let record = &found.expect("reads").records[0];
    assert_eq!(record.head.id, RecordId(Uuid::from_u128(5)));
    insta::assert_snapshot!(record.json().expect("valid").as_str(), @r#"{"id":"00000000-0000-0000-0000-000000000005","workspace_id":"00000000-0000-0000-0000-000000000007","service_id":"00000000-0000-0000-0000-000000000005","query_text":"SELECT 1","status":"timeout","duration_ms":0.5,"rows_affected":null,"error_message":null,"started_at":"1970-01-01T00:00:05Z","completed_at":"1970-01-01T00:00:05Z","tags":["a","b"]}"#);
}
