//! Starting, refusing to start, and ending.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    settings: Settings,
}

fn settings(arguments: &[&str]) -> Settings {
    Options::parse_from(["test"].iter().chain(arguments)).settings
}

const FREE: &[&str] = &["--log-listen", "127.0.0.1:0"];

#[tokio::test]
async fn it_starts_closes_and_starts_again_within_another_runtime() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        let broker = Broker::start(folder.path(), settings(FREE)).await.expect("it starts");
        tokio::net::TcpStream::connect(broker.address()).await.expect("it listens");
        broker.close().await.expect("it closes");
    }
}

#[tokio::test]
async fn a_second_one_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Broker::start(folder.path(), settings(FREE)).await.expect("it starts");
    let refused = Broker::start(folder.path(), settings(FREE)).await.err().expect("it is held");
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    first.close().await.expect("it closes");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_option() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let first = Broker::start(one.path(), settings(FREE)).await.expect("it starts");
    let address = first.address().to_string();
    let taken = settings(&["--log-listen", &address]);
    let refused = Broker::start(two.path(), taken).await.err().expect("it is taken").to_string();
    assert!(refused.contains(&address) && refused.contains("--log-listen"), "{refused}");
    first.close().await.expect("it closes");
}

#[tokio::test]
async fn a_dropped_one_goes_without_being_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), settings(FREE)).await.expect("it starts");
    let address = broker.address();
    drop(broker);
    let gone = async { while tokio::net::TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("it goes");
}

#[tokio::test]
async fn a_panic_in_a_task_of_the_coordinator_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::start(folder.path(), settings(FREE)).await.expect("it starts");
    broker.api.coordinator.spawn(async { panic!("as asked") });
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), broker.ended()).await;
    assert!(ended.expect("it ends").to_string().contains("panicked"));
}

#[test]
fn an_advertised_address_has_a_host_and_a_port() {
    let of = |value: &str| advertised(&settings(&["--log-advertise", value]));
    assert_eq!(of("log.example:9092").expect("it is right"), Some(("log.example".into(), 9092)));
    assert_eq!(of("[::1]:9").expect("it is right"), Some(("::1".into(), 9)));
    for wrong in ["log.example", ":9092", "log.example:port"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}
