//! Each limit and its answer.

use crate::support::{Raw, first_message, frame, parse, query, start_with, sync};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn connections() {
    let running = start_with(|settings| settings.limits.connections = 2).await;
    let (one, _two) = (running.raw().await, running.raw().await);
    let mut three = Raw::connect(running.store.socket_dir()).await;
    three.send(&first_message(3 << 16, &[])).await;
    assert_eq!(three.end().await, "53300");
    drop(one);
    let folder = running.store.socket_dir();
    crate::support::until("a place is free", || async {
        let mut raw = Raw::connect(folder).await;
        raw.send(&first_message(3 << 16, &[])).await;
        raw.message().await.is_some_and(|(tag, _)| tag == b'R')
    })
    .await;
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_clients_and_their_time() {
    let running = start_with(|settings| {
        settings.limits.waiting = 1;
        settings.times.waiting = Duration::from_millis(300);
    })
    .await;
    let mut holder = running.raw().await;
    let (mut one, mut two) = (running.raw().await, running.raw().await);
    holder.query("BEGIN").await;
    one.send(&query("SELECT 1")).await;
    two.send(&query("SELECT 1")).await;
    let mut ends = [one.end().await, two.end().await];
    ends.sort();
    assert_eq!(ends, ["53300", "57014"]);
    assert_eq!(holder.query("COMMIT").await.len(), 2);
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_statements() {
    let running = start_with(|settings| {
        settings.limits.message_bytes = 1000;
        settings.limits.statements = 2;
    })
    .await;
    let mut raw = running.raw().await;
    raw.send(&frame(b'Q', &[b' '; 1000])).await;
    assert_eq!(raw.end().await, "08P01");
    let mut raw = running.raw().await;
    for name in ["a", "b", "c"] {
        raw.send(&[parse(name, "SELECT 1"), sync()].concat()).await;
    }
    assert_eq!(raw.end().await, "53400");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_in_a_transaction() {
    let running =
        start_with(|settings| settings.times.idle_in_transaction = Duration::from_millis(200)).await;
    let mut other = running.raw().await;
    for last in [query("BEGIN"), query("BEGIN; SELECT 1/0"), parse("", "SELECT 1"), frame(b'H', b"")] {
        let mut raw = running.raw().await;
        raw.query("BEGIN").await;
        raw.send(&last).await;
        assert_eq!(raw.end().await, "25P03");
        assert_eq!(other.query("SELECT 1").await.len(), 4);
    }
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dribbled_bytes_and_flushes_do_not_keep_a_transaction() {
    let running =
        start_with(|settings| settings.times.idle_in_transaction = Duration::from_millis(200)).await;
    let mut other = running.raw().await;
    for dribble in [&frame(b'H', b"")[..], b"\x01"] {
        let mut raw = running.raw().await;
        raw.query("BEGIN").await;
        if dribble.len() == 1 {
            raw.send(b"Q\x03\0\0\0").await; // the head of a long message
        }
        let endless = async {
            while raw.stream.write_all(dribble).await.is_ok() {
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        let answer = tokio::select! {
            () = endless => unreachable!("it never ends"),
            answer = other.query("SELECT 1") => answer,
        };
        assert_eq!(answer.len(), 4);
    }
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_cut_off_and_a_small_answer_waits_for_it() {
    let running = start_with(|settings| {
        settings.limits.answer_bytes = 4 << 20;
        settings.times.reading = Duration::from_millis(200);
    })
    .await;
    let mut other = running.raw().await;
    let mut slow = running.raw().await;
    slow.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 3000)")).await;
    assert_eq!(other.query("SELECT 1").await.len(), 4, "the backend is free although the answer isn't read");
    assert_eq!(slow.until(b'Z').await.len(), 3003);
    slow.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 30000)")).await;
    assert_eq!(slow.message().await.unwrap().0, b'T', "the answer begins");
    assert_eq!(other.query("SELECT 1").await.len(), 4);
    assert_eq!(slow.end().await, "57014");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn big_messages_both_ways() {
    let running = start_with(|_| {}).await;
    let pool = running.pool(1).await;
    let big = vec![7_u8; 30 << 20];
    let (back,): (Vec<u8>,) = sqlx::query_as("SELECT $1::bytea").bind(&big).fetch_one(&pool).await.unwrap();
    assert!(back == big);
    running.store.close().await.unwrap();
}
