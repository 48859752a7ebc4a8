//! A broker that is away or hangs: 503 within seconds, never a hang and never a false 202; and when it is back,
//! retried records count once.

use crate::harness::{
    ADMIN_KEY, Api, Broker, DEVELOPMENT_WORKSPACE, Installation, Load, PATIENCE, Signal, metric, settle, sum,
    until,
};
use anyhow::{Context as _, Result, ensure};
use millrace_schemas::key::CLOSING;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// The longest that the edge may take to say that the log is away.
const ANSWER_WITHIN: Duration = Duration::from_millis(3_500);
/// Of the topics, unless one says otherwise.
const PARTITIONS: i32 = 4;
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// From SIGTERM to the end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// `None`, having said so, where a broker can't be started.
async fn with_own_broker(test: &str) -> Result<Option<(Broker, Installation)>> {
    let Some(services) = Broker::services(test) else { return Ok(None) };
    let broker = Broker::start().await?;
    let installation = Installation::on(&broker.address(), &services, test).await?;
    Ok(Some((broker, installation)))
}

#[tokio::test(flavor = "multi_thread")]
async fn is_503_while_the_embedded_log_is_away() -> Result<()> {
    let mut installation = Installation::embedded().await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 'before'")]).await?;

    let embedded = installation.embedded.as_mut().context("it is embedded")?;
    embedded.stop_broker().await?;
    let away = refused_within_seconds(&api).await?;
    embedded.start_broker_again().await?;
    retry(&api, &away).await?;

    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(counted == 2, "{counted} records are counted instead of 2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn is_503_within_seconds_and_a_retry_counts_once() -> Result<()> {
    let Some((broker, installation)) = with_own_broker("outage").await? else { return Ok(()) };
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 'before'")]).await?;

    broker.signal(Signal::Stop)?;
    let hung = refused_within_seconds(&api).await;
    broker.signal(Signal::Continue)?;
    retry(&api, &hung?).await?;

    broker.stop().await?;
    let away = refused_within_seconds(&api).await?;
    broker.start_again().await?;
    retry(&api, &away).await?;

    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(counted == 3, "{counted} records are counted instead of 3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_in_time_though_the_broker_hangs_and_loses_nothing() -> Result<()> {
    let Some((broker, installation)) = with_own_broker("outage_end").await? else { return Ok(()) };
    let up = installation.start("up", &[]).await?;
    let load = Load::start(&installation.log, 1)?;
    let api = up.api(ADMIN_KEY);
    until("records are stored", PATIENCE, async || {
        let stored = api.counter("millrace_sink_rows_total", &[]).await?;
        ensure!(stored > 10.0, "{stored} rows");
        Ok(())
    })
    .await?;
    broker.signal(Signal::Stop)?;
    up.signal(Signal::Terminate)?;
    let ended = up.ended(END_WITHIN).await;
    broker.signal(Signal::Continue)?;
    ensure!(ended?.success(), "it ended with an error");
    let sent = load.stop().await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(usize::try_from(counted)? == sent.times.len(), "{counted} of {}", sent.times.len());
    Ok(())
}

/// So does Kafka 4.3.1 when it is killed after a transaction is decided and before its end is written everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_killed_broker_left_open_is_ended_by_who_began_it() -> Result<()> {
    const INSTANCE: &[&str] = &["--instance-id", "one"];
    let Some((broker, installation)) = with_own_broker("left_open").await? else { return Ok(()) };
    let up = installation.start("up", INSTANCE).await?;
    let before = [metric("select 'before'")];
    // A broker that has just begun may take its time; an event with the same id is counted once.
    until("the first is taken", PATIENCE, async || up.api(ADMIN_KEY).ingest_all(&before).await).await?;
    settle(&installation, &up.api(ADMIN_KEY)).await?;
    up.kill()?;

    let topics = &installation.topics;
    let combine = [&topics.partials, &topics.dead_letters, &topics.ledger];
    let windows = [&topics.aggregates, &topics.progress];
    for (member, written) in [("combine-one-0", combine.as_slice()), ("windows-one", &windows)] {
        let name = format!("{}{member}", installation.prefix);
        until("a transaction is left open", PATIENCE, async || {
            leave_open(&broker, &name, written).await?;
            let open = open(&broker, written)?;
            ensure!(!open.is_empty(), "the broker was quicker");
            Ok(())
        })
        .await?;
    }
    let up = installation.start("up", INSTANCE).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 'after'")]).await?;
    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(counted == 2, "{counted} records are counted instead of 2");
    let all = [combine.as_slice(), &windows].concat();
    until("all has ended", PATIENCE, async || {
        let open = open(&broker, &all)?;
        ensure!(open.is_empty(), "{open:?} are open");
        Ok(())
    })
    .await
}

/// Kills the broker as soon as a transaction of this name with each partition of the topics is committed, and starts it
/// again.
async fn leave_open(broker: &Broker, name: &str, topics: &[&String]) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address()).set("transactional.id", name);
    let pid = broker.pid()?;
    let (producer, topics) = (config.create::<BaseProducer>()?, topics.iter().map(|topic| topic.as_str()));
    block_in_place(|| {
        producer.init_transactions(REQUEST_LIMIT)?;
        producer.begin_transaction()?;
        for (topic, partition) in topics.flat_map(|topic| (0..PARTITIONS).map(move |number| (topic, number)))
        {
            let record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key(CLOSING);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(REQUEST_LIMIT)?;
        producer.commit_transaction(REQUEST_LIMIT)
    })?;
    broker.kill(pid).await?;
    broker.start_again().await
}

/// The partitions that nobody can read to their ends.
fn open(broker: &Broker, topics: &[&String]) -> Result<Vec<(String, i32)>> {
    let reader = |isolation| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.address()).set("isolation.level", isolation);
        config.create::<BaseConsumer>()
    };
    let (all, committed) = (reader("read_uncommitted")?, reader("read_committed")?);
    let mut open = Vec::new();
    for topic in topics {
        for partition in 0..PARTITIONS {
            let end = |reader: &BaseConsumer| {
                block_in_place(|| reader.fetch_watermarks(topic, partition, REQUEST_LIMIT))
            };
            if end(&committed)?.1 < end(&all)?.1 {
                open.push(((*topic).clone(), partition));
            }
        }
    }
    Ok(open)
}

/// Sends one record, which must be answered 503 in time, and returns it.
async fn refused_within_seconds(api: &Api) -> Result<Value> {
    let record = metric("select 'meanwhile'");
    let started = Instant::now();
    let response = api.ingest(std::slice::from_ref(&record)).await?;
    let took = started.elapsed();
    ensure!(response.status() == 503, "{} while the broker is away", response.status());
    ensure!(response.headers().contains_key("retry-after"), "a 503 without Retry-After");
    ensure!(took < ANSWER_WITHIN, "the answer took {took:?}");
    Ok(record)
}

async fn retry(api: &Api, record: &Value) -> Result<()> {
    until("the edge takes records again", PATIENCE, async || {
        api.ingest_all(std::slice::from_ref(record)).await
    })
    .await
}
