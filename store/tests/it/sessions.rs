//! What belongs to one client although all share one session.

use crate::support::{Raw, execute, parse, pool_at, start, sync};
use sqlx::postgres::{PgConnectOptions, PgListener};
use sqlx::{ConnectOptions, Connection};
use std::str::FromStr;

async fn show(raw: &mut Raw, name: &str) -> String {
    let answer = raw.query(&format!("SHOW {name}")).await;
    let row = &answer.iter().find(|(tag, _)| *tag == b'D').unwrap().1;
    String::from_utf8(row[6..].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_first_message_are_the_clients_own() {
    let running = start().await;
    let folder = running.store.socket_dir();
    let paris = [
        ("TimeZone", "Europe/Paris"),
        ("DateStyle", "German"),
        ("options", "-c search_path=a,public -c work_mem=7MB"),
    ];
    let mut paris = Raw::greeted(folder, &paris).await;
    let mut tokyo = Raw::greeted(folder, &[("timezone", "Asia/Tokyo"), ("application_name", "it's")]).await;
    let mut plain = running.raw().await;
    for _ in 0..2 {
        assert_eq!(show(&mut paris, "timezone").await, "Europe/Paris");
        assert_eq!(show(&mut paris, "search_path").await, "a,public");
        assert_eq!(show(&mut paris, "work_mem").await, "7MB");
        assert_eq!(show(&mut tokyo, "timezone").await, "Asia/Tokyo");
        assert_eq!(show(&mut tokyo, "application_name").await, "it's");
        assert_eq!(show(&mut tokyo, "datestyle").await, "ISO, MDY");
        assert_eq!(show(&mut plain, "timezone").await, "UTC");
        assert_eq!(show(&mut plain, "work_mem").await, "4MB");
    }
    let mut bad = Raw::connect(folder).await;
    bad.send(&crate::support::first_message(3 << 16, &[("TimeZone", "Mars/Olympus")])).await;
    assert_eq!(bad.end().await, "22023");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_sets_another_does_not_see() {
    let running = start().await;
    let (mut one, mut two) = (running.raw().await, running.raw().await);
    one.query("SET timezone = 'Asia/Tokyo'").await;
    one.query("SET work_mem = '9MB'").await;
    assert_eq!(show(&mut one, "work_mem").await, "9MB", "nobody came between");
    assert_eq!(show(&mut two, "timezone").await, "UTC");
    assert_eq!(show(&mut two, "work_mem").await, "4MB");
    assert_eq!(show(&mut one, "timezone").await, "Asia/Tokyo", "what the backend reports is followed");
    assert_eq!(show(&mut one, "work_mem").await, "4MB", "other settings are not");
    one.query("SELECT set_config('work_mem', '8MB', false)").await;
    assert_eq!(show(&mut two, "work_mem").await, "4MB");
    one.query("BEGIN; SET LOCAL timezone = 'Europe/Paris'; COMMIT").await;
    assert_eq!(show(&mut one, "timezone").await, "Asia/Tokyo");
    one.query("CREATE ROLE reader; SET ROLE reader").await;
    assert_eq!(show(&mut two, "role").await, "none");
    one.query("SET search_path = 'nowhere'").await;
    drop(one);
    assert_eq!(show(&mut two, "search_path").await, "public");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_names_of_statements_are_different_statements() {
    let running = start().await;
    let (mut one, mut two) = (running.raw().await, running.raw().await);
    one.send(&[parse("s", "SELECT 'one'"), sync()].concat()).await;
    two.send(&[parse("s", "SELECT 'two'"), sync()].concat()).await;
    assert_eq!([one.tags().await, two.tags().await], ["1Z", "1Z"]);
    for (raw, expected) in [(&mut one, b"one"), (&mut two, b"two")] {
        raw.send(&[execute("s"), sync()].concat()).await;
        let answer = raw.until(b'Z').await;
        assert!(answer[1].1.ends_with(expected));
    }
    let pool = running.pool(1).await;
    drop(one);
    crate::support::until("the statements of the one that left are closed", || async {
        let sql = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT ''%'";
        sqlx::query_as(sql).fetch_one(&pool).await.is_ok_and(|(count,): (i64,)| count == 1)
    })
    .await;
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drops_the_statements_of_all_ends_those_that_had_some() {
    let running = start().await;
    let (mut one, mut two) = (running.raw().await, running.raw().await);
    one.send(&[parse("s", "SELECT 'one'"), sync()].concat()).await;
    one.tags().await;
    two.query("DISCARD ALL").await;
    assert_eq!(show(&mut two, "timezone").await, "UTC");
    one.send(&[execute("s"), sync()].concat()).await;
    assert_eq!(one.end().await, "57P01");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_hear_what_others_notify() {
    let running = start().await;
    let pool = running.pool(3).await;
    let mut listener = PgListener::connect(&running.store.url()).await.unwrap();
    listener.listen("news").await.unwrap();
    let mut other = PgListener::connect(&running.store.url()).await.unwrap();
    other.listen_all(["news", "Other \"channel\""]).await.unwrap();
    sqlx::query("SELECT pg_notify('news', 'one')").execute(&pool).await.unwrap();
    assert_eq!(listener.recv().await.unwrap().payload(), "one");
    assert_eq!(other.recv().await.unwrap().payload(), "one");
    sqlx::query("SELECT pg_notify('Other \"channel\"', 'two')").execute(&pool).await.unwrap();
    assert_eq!(other.recv().await.unwrap().payload(), "two");
    other.unlisten_all().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("NOTIFY news, 'three'").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        listener.recv().await.unwrap().payload(),
        "three",
        "what another stopped goes on for this one"
    );
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advisory_lock_of_the_session_excludes_others() {
    let running = start().await;
    let (mut one, mut two) = (running.raw().await, running.raw().await);
    one.query("CREATE TABLE t (a int)").await;
    one.query("SELECT pg_advisory_lock(7)").await;
    two.send(&crate::support::query("SELECT pg_advisory_lock(7); SELECT count(*)::text FROM t")).await;
    one.query("INSERT INTO t VALUES (1)").await;
    one.query("SELECT pg_advisory_unlock(7)").await;
    assert!(two.until(b'Z').await.iter().any(|(tag, body)| *tag == b'D' && body.ends_with(b"1")));
    drop(two);
    one.query("SELECT pg_try_advisory_lock(7)").await;
    let mut locks = running.raw().await;
    drop(one);
    assert!(
        locks.query("SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'").await[1]
            .1
            .ends_with(b"0")
    );
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_only_names_a_lock_keeps_nothing() {
    let running = crate::support::start_with(|settings| {
        settings.times.idle_in_transaction = std::time::Duration::from_secs(50);
        settings.times.waiting = std::time::Duration::from_secs(10);
    })
    .await;
    let (mut one, mut two) = (running.raw().await, running.raw().await);
    assert_eq!(one.query("SELECT 'pg_advisory_lock' AS x").await.len(), 4);
    assert_eq!(two.query("SELECT 1").await.len(), 4, "the backend is free");
    one.query("SELECT pg_advisory_lock(1), 'pg_advisory_unlock'").await;
    two.send(&crate::support::query("SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'")).await;
    one.query("DISCARD ALL").await;
    assert!(two.until(b'Z').await[1].1.ends_with(b"0"), "it had to wait for the end of the lock");
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_whose_close_was_skipped_are_closed_all_the_same() {
    let running = start().await;
    let (mut raw, mut other) = (running.raw().await, running.raw().await);
    for _ in 0..10 {
        raw.send(&[parse("s", "SELECT 'leak'"), sync()].concat()).await;
        assert_eq!(raw.tags().await, "1Z");
        let close = crate::support::frame(b'C', b"Ss\0");
        raw.send(&[parse("", "SELEC"), close, sync()].concat()).await;
        assert_eq!(raw.tags().await, "EZ");
    }
    let left = "SELECT count(*)::text FROM pg_prepared_statements WHERE statement LIKE 'SELECT %leak%'";
    let answer = other.query(left).await;
    assert!(answer[1].1.ends_with(b"\x011"), "the last one at most: {answer:?}");
    drop(raw);
    let other = &tokio::sync::Mutex::new(other);
    crate::support::until("none is left", || async {
        other.lock().await.query(left).await[1].1.ends_with(b"\x010")
    })
    .await;
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlx_with_options() {
    let running = start().await;
    let options = PgConnectOptions::from_str(&running.store.url()).unwrap();
    let options = options
        .application_name("tests")
        .options([("statement_timeout", "5s"), ("search_path", "mine,public")]);
    let mut connection = options.connect().await.unwrap();
    let setting = "SELECT current_setting('search_path'), current_setting('application_name')";
    let found: (String, String) = sqlx::query_as(setting).fetch_one(&mut connection).await.unwrap();
    assert_eq!(found, ("mine,public".to_owned(), "tests".to_owned()));
    connection.close().await.unwrap();
    let pool = pool_at(&running.store.url(), 1).await;
    let found: (String, String) = sqlx::query_as(setting).fetch_one(&pool).await.unwrap();
    assert_eq!(found, ("public".to_owned(), String::new()));
    running.store.close().await.unwrap();
}
