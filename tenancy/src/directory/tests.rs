//! What the directory answers while the database is away. What it answers from one is tested with the real PostgreSQL.

use super::*;
use uuid::Uuid;

const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
const ACCESS: Access = Access { workspace: Some(WORKSPACE), ingest: true, read: true, admin: false };

fn make_stale(directory: &Directory) {
    let long_ago =
        Instant::now().checked_sub(Duration::from_secs(120)).expect("the machine has run for two minutes");
    let mut caches = directory.caches();
    caches.keys.put(sha256("key"), ACCESS, long_ago);
    caches.workspaces.put(WORKSPACE, (), long_ago);
}

#[tokio::test]
async fn what_is_cached_is_served_without_asking() {
    let directory = Directory::without_database(&[("key", Some(ACCESS)), ("made up", None)], &[WORKSPACE]);
    assert_eq!(directory.authenticate("key").await.expect("is cached"), Some(ACCESS));
    assert_eq!(directory.authenticate("made up").await.expect("is cached"), None);
    assert_eq!(directory.known(&[WORKSPACE]).await.expect("is cached"), HashSet::from([WORKSPACE]));
}

#[tokio::test]
async fn what_was_known_holds_while_the_database_is_away() {
    let directory = Directory::without_database(&[], &[]);
    make_stale(&directory);
    assert_eq!(directory.authenticate("key").await.expect("the old answer"), Some(ACCESS));
    assert_eq!(directory.known(&[WORKSPACE]).await.expect("the old answer"), HashSet::from([WORKSPACE]));
}

#[tokio::test]
async fn what_was_never_known_is_an_error_not_a_no() {
    let directory = Directory::without_database(&[], &[]);
    assert!(directory.authenticate("key").await.expect_err("nobody can tell").is_transient());
    assert!(directory.known(&[WORKSPACE]).await.expect_err("nobody can tell").is_transient());
}

#[tokio::test]
async fn a_bad_name_is_refused_without_asking() {
    let directory = Directory::without_database(&[], &[]);
    assert!(matches!(directory.get_or_create_workspace("").await, Err(Error::Name { .. })));
}
