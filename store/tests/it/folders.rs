//! What may be wrong with the folder.

use crate::support::start;
use millrace_store::{Error, Settings, Store};
use std::{fs, path::Path, process::Command};

async fn refused(folder: &Path) -> Error {
    Store::start(Settings::new(folder)).await.expect_err("the folder is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn in_use() {
    let running = start().await;
    assert!(matches!(refused(&running.path()).await, Error::InUse { .. }));
    let path = running.path();
    running.store.close().await.unwrap();
    Store::start(Settings::new(path)).await.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_unwritable_and_of_another_version() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("precious"), "data").unwrap();
    assert!(matches!(refused(&foreign).await, Error::Foreign { .. }));
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1, "nothing was touched");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file).await, Error::Unwritable { .. }));
    assert!(matches!(refused(&file.join("below")).await, Error::Unwritable { .. }));
    assert!(matches!(refused(Path::new("/proc/millrace")).await, Error::Unwritable { .. }));
    let old = folder.path().join("old");
    fs::create_dir_all(old.join("database/pgdata")).unwrap();
    fs::write(old.join("lock"), "").unwrap();
    fs::write(old.join("database/pgdata/PG_VERSION"), "17\n").unwrap();
    assert!(matches!(refused(&old).await, Error::Version { found, .. } if found == "17"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged() {
    let running = start().await;
    let path = running.path();
    running.store.close().await.unwrap();
    let control = path.join("database/pgdata/global/pg_control");
    let whole = fs::read(&control).unwrap();
    fs::write(&control, vec![0; whole.len()]).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
    fs::write(&control, whole).unwrap();
    Store::start(Settings::new(path)).await.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_killed_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fs::create_dir_all(path.join("database/pgdata/half")).unwrap();
    fs::write(path.join("lock"), "").unwrap();
    fs::write(path.join("beginning"), "").unwrap();
    let store = Store::start(Settings::new(&path)).await.unwrap();
    assert!(!path.join("beginning").exists());
    store.close().await.unwrap();
}

/// A small disk of its own; only root may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        mounted.is_ok_and(|done| done.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let error = refused(&disk.0.path().join("store")).await;
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    let Some(disk) = SmallDisk::mount(100) else { return };
    let path = disk.0.path().join("store");
    let store = Store::start(Settings::new(&path)).await.unwrap();
    let pool = crate::support::pool_at(&store.url(), 2).await;
    sqlx::query("CREATE TABLE t (a text)").execute(&pool).await.unwrap();
    let mut rows = 0_i64;
    let fill = "INSERT INTO t SELECT repeat(md5(n::text), 30) FROM generate_series(1, 5000) n";
    let error = loop {
        match sqlx::query(fill).execute(&pool).await {
            Ok(_) => rows += 5000,
            Err(error) => break error,
        }
    };
    let code = error.as_database_error().and_then(|error| error.code().map(String::from)).unwrap_or_default();
    assert!(["53100", "57P01", "58030"].contains(&&*code), "{error:?}");
    drop(pool);
    drop(store);
    let remounted = Command::new("mount").args(["-o", "remount,size=300m"]).arg(disk.0.path()).status();
    assert!(remounted.is_ok_and(|status| status.success()));
    let store = loop {
        match Store::start(Settings::new(&path)).await {
            Err(Error::InUse { .. }) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    let pool = crate::support::pool_at(&store.url(), 2).await;
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM t").fetch_one(&pool).await.unwrap();
    assert_eq!(count, rows, "what was acknowledged is there, and nothing else");
    pool.close().await;
    store.close().await.unwrap();
}
