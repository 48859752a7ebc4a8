use super::*;
use crate::archive::{
    chunk::{Chunk, tests::add},
    manifest::Attempt,
};
use futures::StreamExt as _;
use millrace_schemas::EventTime;
use object_store::{ObjectStore, memory::InMemory, path::Path};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

const END: NextOffset = NextOffset::START;

fn source() -> Source {
    Source { topic: "he.metrics".to_owned(), partition: 3 }
}

fn in_memory() -> Shelf {
    Shelf::new(Location::new(Arc::new(InMemory::new()), Path::from("archive")))
}

/// The records of `[from, to)`, of two workspaces and two hours.
fn chunk(from: i64, to: i64) -> Chunk {
    let mut chunk = Chunk::new(NextOffset::exclusive(from));
    for offset in from..to {
        let (workspace, second) = (u128::from(offset.unsigned_abs() % 2), offset * 1800);
        add(&mut chunk, (workspace, second, offset), Instant::now());
    }
    chunk
}

async fn data_files(shelf: &Shelf) -> BTreeSet<String> {
    let objects = shelf.location.store.list(Some(&shelf.location.path("")));
    let paths =
        objects.map_ok(|object| object.location.to_string()).try_collect::<Vec<_>>().await.expect("lists");
    paths.into_iter().filter(|path| path.ends_with(".parquet")).collect()
}

/// How often each offset is in the data files: what a reader finds who takes every file.
async fn offsets(shelf: &Shelf) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for path in data_files(shelf).await {
        let object = shelf.location.store.get(&Path::from(path)).await.expect("a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(object.bytes().await.expect("its bytes"));
        for batch in reader.and_then(|builder| builder.build()).expect("Parquet") {
            let batch = batch.expect("rows");
            let column = batch.column_by_name("source_offset").expect("a column").clone();
            let column =
                column.as_any().downcast_ref::<arrow::array::Int64Array>().expect("integers").clone();
            column.values().iter().for_each(|offset| *counts.entry(*offset).or_insert(0) += 1);
        }
    }
    counts
}

fn once(to: i64) -> BTreeMap<i64, usize> {
    (0..to).map(|offset| (offset, 1)).collect()
}

/// What a process leaves that dies after the data files and before the manifest.
async fn die_before_the_manifest(shelf: &Shelf, from: i64, to: i64) {
    let manifest = shelf.write(&source(), &mut chunk(from, to)).await.expect("writes");
    let (begin, end) = (NextOffset::exclusive(from), NextOffset::exclusive(to));
    shelf.remove(&source().manifest(begin)).await.expect("removes");
    let attempt = Attempt::new(manifest.files.into_iter().map(|file| file.path).collect());
    let json = serde_json::to_vec(&attempt).expect("serializes");
    let path = shelf.location.path(&source().attempt(begin, end));
    shelf.location.store.put(&path, json.into()).await.expect("writes");
}

async fn next(shelf: &Shelf) -> NextOffset {
    let newest = shelf.newest(&source(), NextOffset::exclusive(1_000_000)).await.expect("lists");
    newest.map_or(NextOffset::START, |manifest| manifest.next())
}

#[tokio::test]
async fn a_stretch_is_written_and_found() {
    let shelf = in_memory();
    assert_eq!(shelf.newest(&source(), END).await.expect("lists"), None);
    let manifest = shelf.write(&source(), &mut chunk(0, 7)).await.expect("writes");
    assert_eq!((manifest.records, manifest.files.len()), (7, 7));
    assert_eq!(offsets(&shelf).await, once(7));
    assert_eq!(shelf.newest(&source(), NextOffset::exclusive(7)).await.expect("lists"), Some(manifest));
    assert_eq!(shelf.file_names(&source().attempts()).await.expect("lists"), Vec::<String>::new());
    let other = Source { partition: 4, ..source() };
    assert_eq!(shelf.newest(&other, END).await.expect("lists"), None);
}

#[tokio::test]
async fn a_stretch_without_records_is_progress_without_files() {
    let shelf = in_memory();
    let mut chunk = Chunk::new(NextOffset::START);
    chunk.pass(41, EventTime(0), Instant::now());
    let manifest = shelf.write(&source(), &mut chunk).await.expect("writes");
    assert_eq!((manifest.to, manifest.files.len()), (42, 0));
    assert_eq!(next(&shelf).await, NextOffset::exclusive(42));
}

#[tokio::test]
async fn death_between_data_and_manifest_archives_nothing_twice() {
    let shelf = in_memory();
    shelf.write(&source(), &mut chunk(0, 5)).await.expect("writes");
    die_before_the_manifest(&shelf, 5, 20).await;
    assert_eq!(next(&shelf).await, NextOffset::exclusive(5));
    let attempted = shelf.attempted(&source(), NextOffset::exclusive(5)).await.expect("lists");
    assert_eq!(attempted, Some(NextOffset::exclusive(20)));
    assert_eq!(shelf.sweep(&source()).await.expect("sweeps"), 0, "its manifest might still come");
    shelf.write(&source(), &mut chunk(5, 23)).await.expect("writes");
    assert!(shelf.sweep(&source()).await.expect("sweeps") > 0);
    assert_eq!(offsets(&shelf).await, once(23));
    assert_eq!(shelf.sweep(&source()).await.expect("sweeps"), 0);
}

#[tokio::test]
async fn the_same_stretch_written_again_is_the_same() {
    let shelf = in_memory();
    let manifest = shelf.write(&source(), &mut chunk(0, 5)).await.expect("writes");
    assert_eq!(shelf.write(&source(), &mut chunk(0, 5)).await.expect("its own manifest"), manifest);
    assert_eq!(offsets(&shelf).await, once(5));
}

#[tokio::test]
async fn of_two_archivers_one_concedes_and_takes_its_files_back() {
    let shelf = in_memory();
    shelf.write(&source(), &mut chunk(0, 5)).await.expect("writes");
    let error = shelf.write(&source(), &mut chunk(0, 9)).await.expect_err("somebody was first");
    assert!(matches!(error, Error::Moved(_)), "{error}");
    assert_eq!(offsets(&shelf).await, once(5));
    assert_eq!(shelf.file_names(&source().attempts()).await.expect("lists"), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_file_goes_in_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    for location in [
        Location::open(&folder.path().display().to_string()).expect("opens"),
        Location::new(Arc::new(InMemory::new()), Path::default()),
    ] {
        let shelf = Shelf::new(location);
        let bytes = Bytes::from((0..40_000_000_u32).map(|n| n.to_le_bytes()[1]).collect::<Vec<u8>>());
        shelf.put_data("a/b.parquet", bytes.clone()).await.expect("writes");
        assert!(shelf.read("a/b.parquet").await.expect("reads") == Some(bytes));
    }
}

#[tokio::test]
async fn a_folder_is_an_archive_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let shelf = Shelf::new(Location::open(&format!("file://{}", folder.path().display())).expect("opens"));
    die_before_the_manifest(&shelf, 0, 4).await;
    shelf.write(&source(), &mut chunk(0, 6)).await.expect("writes");
    let error = shelf.write(&source(), &mut chunk(0, 5)).await.expect_err("somebody was first");
    assert!(matches!(error, Error::Moved(_)), "{error}");
    shelf.sweep(&source()).await.expect("sweeps");
    assert_eq!(offsets(&shelf).await, once(6));
    assert_eq!(next(&shelf).await, NextOffset::exclusive(6));
}

#[tokio::test]
async fn the_newest_of_very_many_is_found_wherever_it_is() {
    for (count, step) in [(1_000, 1), (1_001, 1), (2_500, 7), (3_000, 100)] {
        let shelf = in_memory();
        let store: &dyn ObjectStore = shelf.location.store.as_ref();
        let all: Vec<i64> = (0..count).map(|n| n * step).collect();
        futures::stream::iter(&all)
            .for_each_concurrent(16, |from| {
                let path = shelf.location.path(&source().manifest(NextOffset::exclusive(*from)));
                async move { store.put(&path, "".into()).await.map(|_| ()).expect("writes") }
            })
            .await;
        for end in [count * step, 1_000_000_000] {
            let newest = shelf.newest_from(&source(), NextOffset::exclusive(end)).await.expect("lists");
            assert_eq!(newest, all.last().copied(), "{count} by {step} before {end}");
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// The owner writes so many records.
    Write(i64),
    /// The owner dies before the manifest.
    Die(i64),
    /// A former owner that still holds the stretch after the one before last writes it.
    Wake(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (0..3, 1_i64..9).prop_map(|(kind, records)| match kind {
        0 => Move::Write(records),
        1 => Move::Die(records),
        _ => Move::Wake(records),
    });
    prop::collection::vec(one, 1..10)
}

async fn play(moves: &[Move]) -> (BTreeMap<i64, usize>, i64, BTreeSet<String>, BTreeSet<String>) {
    let shelf = in_memory();
    let mut before = 0;
    for step in moves {
        let at = next(&shelf).await.get();
        match step {
            Move::Write(records) => {
                shelf.write(&source(), &mut chunk(at, at + records)).await.expect("is the only one");
                before = at;
            }
            Move::Die(records) => die_before_the_manifest(&shelf, at, at + records).await,
            Move::Wake(records) => match shelf.write(&source(), &mut chunk(before, before + records)).await {
                Ok(_) | Err(Error::Moved(_)) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }
    let at = next(&shelf).await.get();
    shelf.write(&source(), &mut chunk(at, at + 1)).await.expect("is the only one");
    shelf.sweep(&source()).await.expect("sweeps");
    let mut named = BTreeSet::new();
    let mut from = NextOffset::START;
    while let Some(manifest) = shelf.manifest(&source(), from).await.expect("reads") {
        named.extend(manifest.files.iter().map(|file| shelf.location.path(&file.path).to_string()));
        from = manifest.next();
    }
    (offsets(&shelf).await, at + 1, named, data_files(&shelf).await)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever dies or wakes up late: after the next write each record is there once, and no file that no manifest names.
    #[test]
    fn each_record_once_whatever_happens(moves in moves()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (found, to, named, files) = runtime.block_on(play(&moves));
        prop_assert_eq!(found, once(to));
        prop_assert_eq!(named, files);
    }
}
