//! A log of three brokers, each of which is killed in turn: the two others go on, and nothing is lost or counted twice.
//!
//! It runs for as many rounds as `MILLRACE_TEST_CLUSTER` says, and wants the two cores for itself: three JVMs are on them.

use crate::{
    audit::must_agree,
    harness::{
        ADMIN_KEY, Api, Broker, Installation, PATIENCE, Tenant, number, say, say_skipped, settle, sum, until,
    },
};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    metadata::MetadataPartition,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::{JoinSet, block_in_place},
    time::interval,
};

const COPIES: usize = 3;
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const PACE: Duration = Duration::from_millis(20);
/// So many records must be accepted and counted, while a broker is away.
const MEANWHILE: usize = 50;
/// Sessions and transactions of who was served by the dead one time out, and coordinators move, on two busy cores.
const FAILS_OVER_WITHIN: Duration = Duration::from_secs(180);
const TENANTS: usize = 5;

/// Sends to the edge, and again what was not taken, until it is stopped.
struct Feed {
    accepted: Arc<AtomicUsize>,
    running: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
}

impl Feed {
    /// A record of each tenant in each request: so they come to several partitions.
    fn start(api: Api, tenants: Vec<Tenant>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (accepted, mut running) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let counter = Arc::clone(&accepted);
        running.spawn(async move {
            let mut pace = interval(PACE);
            while !*stopped.borrow() {
                let batch: Vec<_> = tenants.iter().map(|tenant| tenant.metric("select 'cluster'")).collect();
                loop {
                    pace.tick().await;
                    let response = api.ingest(&batch).await?;
                    match response.status().as_u16() {
                        202 => break,
                        503 => {}
                        status => anyhow::bail!("the edge answered {status}: {}", response.text().await?),
                    }
                }
                counter.fetch_add(batch.len(), Ordering::Relaxed);
            }
            Ok(())
        });
        Self { accepted, running, stop }
    }

    /// How much was accepted; an error where it has ended.
    fn accepted(&mut self) -> Result<usize> {
        if let Some(ended) = self.running.try_join_next() {
            ended??;
            anyhow::bail!("nobody has stopped it");
        }
        Ok(self.accepted.load(Ordering::Relaxed))
    }

    async fn stop(mut self) -> Result<usize> {
        self.stop.send_replace(true);
        self.running.join_next().await.context("it was started")???;
        Ok(self.accepted.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_while_one_broker_of_three_is_away_and_loses_nothing() -> Result<()> {
    let Some(rounds) = number("MILLRACE_TEST_CLUSTER") else {
        say_skipped("cluster", "set MILLRACE_TEST_CLUSTER to a number of rounds to run it");
        return Ok(());
    };
    let Some(services) = Broker::services("cluster") else { return Ok(()) };
    let brokers = Broker::cluster().await?;
    let addresses = brokers.each_ref().map(Broker::address).join(",");
    all_are_there(&addresses, 0).await?;
    let installation = Installation::on(&addresses, &services, "cluster").await?;
    let up = installation.start("up", &[]).await?;
    let topics = all_are_there(&addresses, 1).await?;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        tenants.push(installation.add_tenant(&format!("tenant-{number}")).await?);
    }
    let workspaces: Vec<String> = tenants.iter().map(|tenant| tenant.workspace.to_string()).collect();
    let api = up.api(ADMIN_KEY);
    let mut feed = Feed::start(up.api(ADMIN_KEY), tenants);
    goes_on(&api, &workspaces, &mut feed).await?;
    for broker in (0..rounds).flat_map(|_| &brokers) {
        broker.kill(broker.pid()?).await?;
        let killed = Instant::now();
        goes_on(&api, &workspaces, &mut feed).await?;
        say(&format!(
            "{} is away: records are counted again after {:.1?}",
            broker.address(),
            killed.elapsed()
        ));
        broker.start_again().await?;
        all_are_there(&addresses, topics).await?;
    }
    let accepted = feed.stop().await?;
    settle(&installation, &api).await?;
    let counted = counted(&api, &workspaces).await?;
    ensure!(counted == accepted, "{counted} of {accepted} are counted");
    must_agree(&installation, &[]).await.map(|_| ())
}

/// More is accepted from here on, and counted too.
async fn goes_on(api: &Api, workspaces: &[String], feed: &mut Feed) -> Result<()> {
    let enough = feed.accepted()? + MEANWHILE;
    until("it goes on", FAILS_OVER_WITHIN, async || {
        let (accepted, counted) = (feed.accepted()?, counted(api, workspaces).await?);
        ensure!(counted >= enough, "{counted} records are counted of {accepted}, not {enough}");
        Ok(())
    })
    .await
}

async fn counted(api: &Api, workspaces: &[String]) -> Result<usize> {
    let mut all = 0;
    for workspace in workspaces {
        all += sum(api, workspace, "window=5s", "success_count").await?;
    }
    Ok(usize::try_from(all)?)
}

/// Waits until all brokers are there, and hold copies of at least so many topics; how many.
async fn all_are_there(addresses: &str, topics: usize) -> Result<usize> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", addresses).create()?;
    until("there are all copies", PATIENCE, async || {
        let all = block_in_place(|| client.fetch_metadata(None, REQUEST_LIMIT))?;
        ensure!(all.brokers().len() == COPIES, "{} brokers", all.brokers().len());
        let is_copied = |partition: &MetadataPartition| partition.isr().len() == COPIES;
        let lacking = all.topics().iter().find(|topic| !topic.partitions().iter().all(is_copied));
        ensure!(lacking.is_none(), "{:?} lacks copies", lacking.map(|topic| topic.name()));
        ensure!(all.topics().len() >= topics, "{} topics", all.topics().len());
        Ok(all.topics().len())
    })
    .await
}
