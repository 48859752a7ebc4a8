//! The protocol's corners, byte by byte.

use crate::support::{Raw, execute, first_message, frame, parse, query, sqlstate, start, sync};
use tokio::io::AsyncReadExt;

#[tokio::test(flavor = "multi_thread")]
async fn first_messages() {
    let running = start().await;
    let folder = running.store.socket_dir();
    let mut raw = Raw::connect(folder).await;
    for code in [80_877_103_u32, 80_877_104] {
        raw.send(&[&8_u32.to_be_bytes()[..], &code.to_be_bytes()].concat()).await;
        assert_eq!(raw.stream.read_u8().await.unwrap(), b'N');
    }
    raw.send(&first_message(3 << 16 | 9, &[("_pq_.novelty", "1")])).await;
    let negotiated = raw.message().await.unwrap();
    assert_eq!(negotiated, (b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.novelty\0".to_vec()));
    assert!(raw.tags().await.starts_with('R'));
    let mut raw = Raw::connect(folder).await;
    raw.send(&first_message(3 << 16, &[("database", "other")])).await;
    assert_eq!(raw.end().await, "3D000");
    let mut raw = Raw::connect(folder).await;
    raw.send(&first_message(3 << 16, &[("replication", "true")])).await;
    assert_eq!(raw.end().await, "0A000");
    let mut raw = Raw::connect(folder).await;
    raw.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.end().await, "08P01");
    let mut raw = Raw::connect(folder).await;
    raw.send(&[&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &[0; 8]].concat()).await;
    assert_eq!(raw.message().await, None, "a cancellation has no answer");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_skips_up_to_the_next_sync() {
    let running = start().await;
    let mut raw = running.raw().await;
    let unit = [parse("", "SELECT 1/0"), execute(""), parse("", "SELECT 2"), execute(""), sync()].concat();
    raw.send(&[unit, parse("", "SELECT 3"), execute(""), sync()].concat()).await;
    let first = raw.until(b'Z').await;
    assert_eq!(first.iter().map(|message| message.0).collect::<Vec<_>>(), b"1EZ");
    assert_eq!(sqlstate(&first[1].1), "22012");
    assert_eq!(raw.tags().await, "12DCZ");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_flushes_and_the_unnamed_statement() {
    let running = start().await;
    let mut raw = running.raw().await;
    let mut other = running.raw().await;
    raw.send(&[parse("", "SELECT 1"), sync()].concat()).await;
    assert_eq!(raw.tags().await, "1Z");
    other.send(&[parse("", "SELECT 'two'"), sync()].concat()).await;
    assert_eq!(other.tags().await, "1Z");
    raw.send(&[execute(""), sync(), execute(""), sync(), query("SELECT 1")].concat()).await;
    assert_eq!(
        (raw.tags().await, raw.tags().await, raw.tags().await),
        ("2DCZ".into(), "2DCZ".into(), "TDCZ".into())
    );
    raw.send(&[parse("", "SELECT 4"), frame(b'D', b"S\0"), frame(b'H', b"")].concat()).await;
    assert_eq!(raw.until(b'T').await.len(), 3, "a flush is answered before the unit ends");
    raw.send(&[execute(""), sync()].concat()).await;
    assert_eq!(raw.tags().await, "2DCZ");
    raw.send(&sync()).await;
    assert_eq!(raw.tags().await, "Z");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_their_rows_bit_by_bit() {
    let running = start().await;
    let mut raw = running.raw().await;
    raw.send(&query("BEGIN")).await;
    raw.until(b'Z').await;
    let bind = frame(b'B', b"portal\0\0\0\0\0\0\0\0");
    let some = frame(b'E', b"portal\0\0\0\0\x02");
    raw.send(&[parse("", "SELECT generate_series(1, 3)"), bind, some.clone(), sync()].concat()).await;
    assert_eq!(raw.tags().await, "12DDsZ");
    raw.send(&[some, frame(b'C', b"Pportal\0"), sync()].concat()).await;
    assert_eq!(raw.tags().await, "DC3Z");
    raw.send(&query("COMMIT")).await;
    assert_eq!(raw.tags().await, "CZ");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_both_ways() {
    let running = start().await;
    let pool = running.pool(2).await;
    sqlx::query("CREATE TABLE copied (a int, b text)").execute(&pool).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let mut copy = connection.copy_in_raw("COPY copied FROM STDIN").await.unwrap();
    for chunk in 0..200 {
        let lines: String =
            (0..500).map(|line| format!("{}\t{}\n", chunk * 500 + line, "y".repeat(50))).collect();
        copy.send(lines.as_bytes()).await.unwrap();
    }
    assert_eq!(copy.finish().await.unwrap(), 100_000);
    let copy = connection.copy_in_raw("COPY copied FROM STDIN").await.unwrap();
    copy.abort("changed my mind").await.unwrap();
    let mut copy = connection.copy_in_raw("COPY copied FROM STDIN").await.unwrap();
    copy.send(&b"not a number\tx\n"[..]).await.unwrap();
    copy.finish().await.unwrap_err();
    let (count,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM copied").fetch_one(&mut *connection).await.unwrap();
    assert_eq!(count, 100_000);
    use futures::TryStreamExt;
    let mut out = connection.copy_out_raw("COPY copied TO STDOUT").await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = out.try_next().await.unwrap() {
        bytes += chunk.len();
    }
    assert!(bytes > 100_000 * 52, "{bytes}");
    drop(out);
    let mut raw = running.raw().await;
    let whole = [
        parse("", "COPY copied FROM STDIN"),
        execute(""),
        sync(),
        frame(b'd', b"1\tz\n"),
        frame(b'c', b""),
        sync(),
    ];
    raw.send(&whole.concat()).await;
    assert_eq!(raw.tags().await, "12GCZ");
    drop(connection);
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_ends_its_own_connection_only() {
    let running = start().await;
    let mut good = running.raw().await;
    for bad in [&b"Q\0\0\0\0"[..], b"!\0\0\0\x04", b"Q\x7f\0\0\0", b"P\0\0\0\x06no"] {
        let mut raw = running.raw().await;
        raw.send(bad).await;
        assert_eq!(raw.end().await, "08P01");
    }
    assert_eq!(good.query("SELECT 1").await.len(), 4);
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn good_bye_lets_finish_what_was_asked() {
    let running = start().await;
    let mut raw = running.raw().await;
    raw.send(&[query("CREATE TABLE made (a int)"), frame(b'X', b"")].concat()).await;
    assert_eq!(raw.tags().await, "CZ");
    let mut raw = running.raw().await;
    assert_eq!(raw.query("SELECT * FROM made").await.len(), 3);
    running.store.close().await.unwrap();
}
