//! What may be wrong with the folder.

use crate::support::{Raw, first_message, start, until};
use millrace_store::{Error, Settings, Store};
use sqlx::Connection;
use std::{fs, io::Write, path::Path, process::Command};

const CHILD: &str = "MILLRACE_STORE_TEST_REFUSED";

async fn refused(folder: &Path) -> Error {
    Store::start(Settings::new(folder)).await.expect_err("the folder is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn in_use() {
    let running = start().await;
    let error = refused(&running.path()).await;
    assert!(matches!(error, Error::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
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
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
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

/// Not a test of its own: what [`folders_that_the_library_needs`] starts with other variables.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_refused() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    eprintln!("refused: {:?}", refused(Path::new(&folder)).await);
}

#[test]
fn folders_that_the_library_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (variable, value, expected) in [
        ("XDG_CACHE_HOME", file.join("cache"), "refused: Cache"),
        ("TMPDIR", folder.path().join("missing"), "refused: Temporary"),
    ] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "folders::child_that_is_refused", "--nocapture"])
            .env(CHILD, folder.path().join("store"))
            .env(variable, value)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stderr);
        assert!(text.contains(expected), "{text}");
    }
}

/// A small disk of its own; only root may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        let mounted = mounted.is_ok_and(|done| done.status.success());
        if !mounted {
            eprintln!("skipped: only root may mount the small disk that this test needs");
        }
        mounted.then_some(Self(folder))
    }

    fn grow(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        let remounted = Command::new("mount").args(["-o", &size]).arg(self.0.path()).status();
        assert!(remounted.is_ok_and(|status| status.success()));
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
    disk.grow(300);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let Some(disk) = SmallDisk::mount(200) else { return };
    let mut settings = Settings::new(disk.0.path().join("store"));
    settings.limits.crashes = 0;
    let mut store = Store::start(settings).await.unwrap();
    let folder = store.socket_dir().to_owned();
    let mut raw = Raw::greeted(&folder, &[]).await;
    raw.query("CREATE TABLE t AS SELECT 7 AS a").await;
    let filler = disk.0.path().join("filler");
    fs::File::create(&filler).unwrap().write_all(&vec![1; 200 << 20]).expect_err("the disk is full");
    store.crash();
    assert_eq!(raw.end().await, "53100");
    let mut refused = Raw::connect(&folder).await;
    refused.send(&first_message(3 << 16, &[])).await;
    assert_eq!(refused.end().await, "53100");
    fs::remove_file(filler).unwrap();
    let url = store.url();
    let works = async || {
        let mut connection = sqlx::PgConnection::connect(&url).await?;
        sqlx::query("SELECT a FROM t").fetch_one(&mut connection).await
    };
    tokio::select! {
        error = store.ended() => panic!("it gave up: {error}"),
        () = until("the store works again", || async { works().await.is_ok() }) => {}
    }
    store.close().await.unwrap();
}
