//! Start, queries, close, and start again; Millrace's own migrations; many at once.

use crate::support::{pool_at, start};
use futures::future::{join_all, try_join_all};
use millrace_store::{Settings, Store};
use std::os::unix::fs::PermissionsExt;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_there_after_a_restart() {
    let running = start().await;
    let mode = std::fs::metadata(running.store.socket_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let pool = running.pool(2).await;
    sqlx::query("CREATE TABLE t (a int PRIMARY KEY)").execute(&pool).await.unwrap();
    sqlx::query("INSERT INTO t VALUES ($1)").bind(7).execute(&pool).await.unwrap();
    pool.close().await;
    let path = running.path();
    running.store.close().await.unwrap();
    let store = Store::start(Settings::new(path)).await.unwrap();
    let pool = pool_at(&store.url(), 2).await;
    let (a,): (i32,) = sqlx::query_as("SELECT a FROM t").fetch_one(&pool).await.unwrap();
    assert_eq!(a, 7);
    pool.close().await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_path_gets_a_socket_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("a folder, 100%".to_owned() + &"x".repeat(100));
    let store = Store::start(Settings::new(&long)).await.unwrap();
    let socket = store.socket_dir().to_owned();
    assert!(!socket.starts_with(&long));
    let pool = pool_at(&store.url(), 1).await;
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    pool.close().await;
    store.close().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migrations_of_millrace_run_and_run_again() {
    let running = start().await;
    let pool = running.pool(3).await;
    let migrations = sqlx::migrate!("../migrations");
    let together = (0..3).map(|_| migrations.run(&pool));
    for result in join_all(together).await {
        result.unwrap();
    }
    sqlx::query("CREATE EXTENSION vector").execute(&pool).await.unwrap();
    let (distance,): (f64,) =
        sqlx::query_as("SELECT '[1,2]'::vector <-> '[4,6]'").fetch_one(&pool).await.unwrap();
    assert!((distance - 5.0).abs() < 1e-9);
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_tasks_share_ten_connections() {
    let running = start().await;
    let pool = running.pool(10).await;
    sqlx::query("CREATE TABLE accounts (id int PRIMARY KEY, amount bigint)").execute(&pool).await.unwrap();
    sqlx::query("INSERT INTO accounts SELECT n, 100 FROM generate_series(0, 9) n")
        .execute(&pool)
        .await
        .unwrap();
    let tasks = (0..20).map(|task| {
        let pool = pool.clone();
        async move {
            for round in 0..20 {
                let mut transaction = pool.begin().await?;
                for (id, by) in [((task + round) % 10, -1_i64), ((task + round + 3) % 10, 1)] {
                    let sql = "UPDATE accounts SET amount = amount + $2 WHERE id = $1";
                    sqlx::query(sql).bind(id).bind(by).execute(&mut *transaction).await?;
                }
                if round % 5 == 0 { transaction.rollback().await? } else { transaction.commit().await? }
            }
            Ok::<_, sqlx::Error>(())
        }
    });
    try_join_all(tasks).await.unwrap();
    let sum: (i64, i64) =
        sqlx::query_as("SELECT sum(amount)::bigint, count(*) FROM accounts").fetch_one(&pool).await.unwrap();
    assert_eq!(sum, (1000, 10));
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn upserts_by_unnest_and_a_big_select() {
    use futures::TryStreamExt;
    let running = start().await;
    let pool = running.pool(2).await;
    sqlx::query("CREATE TABLE big (id bigint PRIMARY KEY, text text)").execute(&pool).await.unwrap();
    let ids: Vec<i64> = (0..50_000).collect();
    let texts: Vec<String> = ids.iter().map(|id| format!("{id} {}", "x".repeat(200))).collect();
    for _ in 0..2 {
        let sql = "INSERT INTO big SELECT * FROM UNNEST($1::bigint[], $2::text[]) \
                   ON CONFLICT (id) DO UPDATE SET text = EXCLUDED.text";
        let done = sqlx::query(sql).bind(&ids).bind(&texts).execute(&pool).await.unwrap();
        assert_eq!(done.rows_affected(), 50_000);
    }
    let mut rows = sqlx::query_as::<_, (i64, String)>("SELECT * FROM big ORDER BY id").fetch(&pool);
    let mut count = 0;
    while let Some((id, text)) = rows.try_next().await.unwrap() {
        assert_eq!((id, text.len()), (count, format!("{id} ").len() + 200));
        count += 1;
    }
    assert_eq!(count, 50_000);
    drop(rows);
    running.store.close().await.unwrap();
}
