//! Clients that vanish, at every point, and the store that closes under them.

use crate::support::{Raw, execute, frame, parse, query, start, start_with, sync};
use millrace_store::{Error, Settings, Store};
use std::{process::Command, time::Duration};
use tokio::{io::AsyncReadExt, time::Instant};

const CHILD: &str = "MILLRACE_STORE_TEST_BUSY";

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_transaction() {
    let running = start().await;
    let mut other = running.raw().await;
    other.query("CREATE TABLE t (a int)").await;
    for last in [
        query("INSERT INTO t VALUES (1)"),
        [parse("", "INSERT INTO t VALUES (1)"), execute("")].concat(),
        query("SELECT 1/0"),
    ] {
        let mut raw = running.raw().await;
        raw.query("BEGIN").await;
        raw.send(&last).await;
        drop(raw);
        let answer = other.query("SELECT count(*)::text FROM t").await;
        assert!(answer[1].1.ends_with(b"\x010"), "{answer:?}");
    }
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_an_answer_and_of_a_copy() {
    let running = start().await;
    let mut other = running.raw().await;
    other.query("CREATE TABLE t (a text)").await;
    let long = "SELECT repeat('x', 100) FROM generate_series(1, 300000)";
    for (unit, until) in [
        (query(long), b'D'),
        ([parse("", long), execute("")].concat(), b'D'),
        (query("COPY t FROM STDIN"), b'G'),
        ([parse("", "COPY t FROM STDIN"), execute(""), sync()].concat(), b'G'),
    ] {
        let mut raw = running.raw().await;
        raw.send(&unit).await;
        if until == b'G' {
            raw.until(until).await;
            raw.send(&frame(b'd', b"half a line")).await;
        } else {
            raw.send(&frame(b'H', b"")).await;
            raw.until(until).await;
        }
        drop(raw);
        let answer = other.query("SELECT count(*)::text FROM t").await;
        assert!(answer[1].1.ends_with(b"\x010"), "{answer:?}");
    }
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_and_during_the_greeting_and_while_waiting() {
    let running = start_with(|settings| settings.times.greeting = Duration::from_millis(50)).await;
    let folder = running.store.socket_dir();
    drop(Raw::connect(folder).await);
    let mut silent = Raw::connect(folder).await;
    silent.send(b"\0\0\0").await;
    assert_eq!(silent.message().await, None, "who says nothing is closed");
    let mut holder = running.raw().await;
    holder.query("BEGIN").await;
    let mut waiting = running.raw().await;
    waiting.send(&query("CREATE TABLE never (a int)")).await;
    drop(waiting);
    let mut other = running.raw().await;
    other.send(&query("SELECT to_regclass('never')::text")).await;
    holder.query("COMMIT").await;
    let answer = other.until(b'Z').await;
    assert_eq!(answer[1].1, b"\0\x01\xff\xff\xff\xff", "what a vanished client had not begun is not done");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_that_nobody_reads_is_ended() {
    let running = start_with(|settings| settings.times.discarding = Duration::from_millis(50)).await;
    let mut other = running.raw().await;
    other.query("CREATE TABLE t AS SELECT 7 AS a").await;
    let mut raw = running.raw().await;
    raw.send(&query("SELECT generate_series(1, 1000000000000)")).await;
    raw.until(b'D').await;
    drop(raw);
    assert_eq!(other.end().await, "57P01", "the backend restarts");
    let mut again = running.raw().await;
    assert_eq!(again.query("SELECT a FROM t").await.len(), 4);
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_futures_harm_nothing() {
    // sqlx 0.9 forgets a transaction whose `begin` was dropped: its connection goes back to the pool within it, and
    // only the store's time limit frees the backend.
    let running =
        start_with(|settings| settings.times.idle_in_transaction = Duration::from_millis(100)).await;
    let pool = running.pool(4).await;
    sqlx::query("CREATE TABLE t (a bigint)").execute(&pool).await.unwrap();
    for round in 0..60_u64 {
        let work = async {
            let mut transaction = pool.begin().await?;
            let sql = "INSERT INTO t SELECT generate_series(1, 2000)";
            sqlx::query(sql).execute(&mut *transaction).await?;
            sqlx::query("SELECT * FROM t").fetch_all(&mut *transaction).await?;
            Ok::<_, sqlx::Error>(()) // dropped: rolled back
        };
        drop(tokio::time::timeout(Duration::from_micros(round * 150), work).await);
    }
    let mut other = running.raw().await;
    assert!(other.query("SELECT count(*)::text FROM t").await[1].1.ends_with(b"\x010"));
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_lets_the_transaction_end_and_takes_nobody_else() {
    let running = start().await;
    let (mut holder, mut idle, folder) = (running.raw().await, running.raw().await, running.path());
    holder.query("CREATE TABLE t (a int)").await;
    holder.query("BEGIN").await;
    let mut closing = tokio::task::JoinSet::new();
    closing.spawn(running.store.close());
    assert_eq!(idle.end().await, "57P01");
    holder.query("INSERT INTO t VALUES (1)").await;
    holder.query("COMMIT").await;
    assert_eq!(holder.end().await, "57P01");
    closing.join_next().await.unwrap().unwrap().unwrap();
    let store = Store::start(Settings::new(folder)).await.unwrap();
    let mut raw = Raw::greeted(store.socket_dir(), &[]).await;
    assert_eq!(raw.query("SELECT a FROM t").await.len(), 4);
    store.close().await.unwrap();
    assert_eq!(raw.stream.read(&mut [0]).await.ok().map(|count| count > 0), Some(true), "the last word");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_ever() {
    let running = start_with(|settings| settings.times.closing = Duration::from_millis(50)).await;
    let mut holder = running.raw().await;
    holder.query("BEGIN").await;
    running.store.close().await.unwrap();
    assert_eq!(holder.end().await, "57P01");
}

/// Not a test of its own: its thread would compute on while others run.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_closes_a_busy_store() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let running = start().await;
    let path = running.path();
    let mut raw = running.raw().await;
    raw.query("CREATE TABLE t AS SELECT 7 AS a").await;
    let endless = "SELECT count(*) FROM (SELECT generate_series(1, 100000000000)) endless";
    raw.send(&query(&format!("SELECT repeat('x', 20000); {endless}"))).await;
    raw.until(b'D').await;
    let began = Instant::now();
    running.store.close().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(raw.end().await, "57P01");
    let again = Store::start(Settings::new(&path)).await.expect_err("it is still in use");
    assert!(matches!(again, Error::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{again}");
    std::mem::forget(running.folder); // the parent opens it
    eprintln!("left {}", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_computes_does_not_keep_the_store_from_closing() {
    let child = tokio::task::spawn_blocking(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leaving::child_that_closes_a_busy_store", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap()
    });
    let output = child.await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let path = text.lines().find_map(|line| line.strip_prefix("left ")).expect("it says where");
    let store = Store::start(Settings::new(path)).await.unwrap();
    let mut raw = Raw::greeted(store.socket_dir(), &[]).await;
    assert_eq!(raw.query("SELECT a FROM t").await.len(), 4, "what was committed is there");
    store.close().await.unwrap();
    std::fs::remove_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
}
