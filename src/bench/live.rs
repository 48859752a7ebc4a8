//! `millrace bench live`: how soon what an edge has acknowledged is in the live feed, and in the final rows of its windows.

mod feed;
mod sending;
mod windows;

use super::{
    load::{
        self,
        batch::Target,
        latency::{Latencies, Percentiles},
    },
    report, say,
    site::{
        self, Site,
        role::Role,
        usage::{Spent, Usage, count},
    },
    stall::Watch,
    table::{Table, maybe, whole},
};
use anyhow::Context;
use chrono::{TimeDelta, Utc};
use clap::Args;
use feed::{Feed, Tail};
use serde::Serialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

#[derive(Debug, Args)]
pub struct LiveBench {
    #[command(flatten)]
    site: site::Settings,
    /// Events a second, whether or not the edge keeps up
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    rate: u32,
    /// Events of a request
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Services that the events are of
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keys: u32,
    /// How long to send; the first tenth is not counted
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(2..=3600))]
    seconds: u32,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

/// When each of many things happened first, in microseconds from a common start.
pub struct Arrivals {
    start: Instant,
    times_us: Vec<AtomicU64>,
}

const NEVER: u64 = u64::MAX;

impl Arrivals {
    fn new(start: Instant, count: u64) -> Arc<Self> {
        Arc::new(Self { start, times_us: (0..count).map(|_| AtomicU64::new(NEVER)).collect() })
    }

    fn note(&self, number: u64) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(NEVER);
        if let Some(time) = usize::try_from(number).ok().and_then(|index| self.times_us.get(index)) {
            time.fetch_min(now, Ordering::Relaxed);
        }
    }

    fn us(&self, index: usize) -> Option<u64> {
        self.times_us.get(index).map(|time| time.load(Ordering::Relaxed)).filter(|time| *time != NEVER)
    }

    fn missing(&self) -> usize {
        self.times_us.iter().filter(|time| time.load(Ordering::Relaxed) == NEVER).count()
    }
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    rate_per_s: u32,
    events_per_request: u32,
    keys: u32,
    /// What was acknowledged.
    records_per_s: f64,
    /// From the edge's acknowledgement to the live feed.
    #[serde(flatten)]
    feed: Percentiles,
    /// To a bare consumer of the topic.
    limit: Percentiles,
    /// From the end of a window of 5 s to its final row in REST; none where no whole window was watched.
    final_row: Option<Percentiles>,
    dropped: u64,
    /// Of the query service.
    cpu_s_per_million: f64,
    peak_rss_mb: f64,
    cores_edge: f64,
    cores_processor: f64,
    cores_query: f64,
    cores_log: Option<f64>,
    cores_load: f64,
}

pub async fn run(bench: LiveBench) -> anyhow::Result<()> {
    report(&bench.site, bench.json, async |site| bench.measure(site).await).await
}

/// All that takes part, in processes of their own.
struct Roles {
    edge: Role,
    processor: Role,
    query: Role,
}

impl LiveBench {
    fn batches(&self) -> u64 {
        (u64::from(self.rate) * u64::from(self.seconds)).div_ceil(u64::from(self.batch))
    }

    async fn measure(&self, site: &Site) -> anyhow::Result<Report> {
        let archive = site.archive_url();
        let roles = Roles {
            edge: Role::start(site, "ingest", &[]).await?,
            processor: Role::start(site, "processor", &["--archive-url", &archive]).await?,
            query: Role::start(site, "query", &["--archive-url", &archive]).await?,
        };
        let usages = [roles.edge.usage()?, roles.processor.usage()?, roles.query.usage()?, Usage::start()?];
        let log = site.host_usage()?;
        let observed = self.observe(site, &roles).await?;
        let spent = usages.iter().map(Usage::spent).collect::<anyhow::Result<Vec<_>>>()?;
        let log = log.map(|usage| usage.spent()).transpose()?;
        observed.summarize(self, &spent, log)
    }

    /// Sends, and waits until all that was sent has come.
    async fn observe(&self, site: &Site, roles: &Roles) -> anyhow::Result<Observed> {
        let target = Target {
            address: roles.edge.address,
            key: site.key.clone(),
            workspace: site.workspace,
            services: self.keys,
        };
        load::first_answer(&target).await?;
        let (start, events) = (Instant::now(), self.batches() * u64::from(self.batch));
        let acknowledged = Arrivals::new(start, self.batches());
        let [fed, consumed] = [Arrivals::new(start, events), Arrivals::new(start, events)];
        let (dropped, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let feed = Feed::open(site, roles.query.address).await?;
        let mut reading = JoinSet::new();
        reading.spawn(feed.read(Arc::clone(&fed), Arc::clone(&dropped)));
        let (tail, tail_ended) = (Arc::clone(&consumed), Arc::clone(&ended));
        let log = site.log.clone();
        let tail = tokio::task::spawn_blocking(move || Tail::open(&log).map(|open| (open, tail))).await??;
        let tail = thread::spawn(move || tail.0.read(&tail.1, &tail_ended));
        // A window is watched when it has had records from all services, from its first second on.
        let watched = [Utc::now(), Utc::now() + TimeDelta::seconds(self.seconds.into())];
        let began = Instant::now();
        let (sent, windows) = tokio::join!(
            async {
                let sent = sending::run(self, &target, &acknowledged).await;
                (sent, began.elapsed())
            },
            windows::watch(site, roles.query.address, watched, sending::services(self))
        );
        let (sent, elapsed) = sent;
        sent?;
        let windows = windows?;
        let arrived = wait_for(&[&fed, &consumed], &dropped, &mut reading).await;
        ended.store(true, Ordering::Relaxed);
        tail.join().map_err(|_| anyhow::anyhow!("the consumer panicked"))??;
        arrived?;
        Ok(Observed {
            acknowledged,
            fed,
            consumed,
            windows,
            dropped: dropped.load(Ordering::Relaxed),
            elapsed,
        })
    }
}

/// Until each has come or was reported as dropped.
async fn wait_for(
    all: &[&Arc<Arrivals>; 2],
    dropped: &AtomicU64,
    reading: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut watch = Watch::new();
    loop {
        let missing = all.map(|arrivals| arrivals.missing());
        let lost = usize::try_from(dropped.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if missing[0] <= lost && missing[1] == 0 {
            return Ok(());
        }
        if let Some(ended) = reading.try_join_next() {
            ended??;
        }
        let stuck = || format!("{missing:?} events have not come, {lost} were dropped");
        watch.look(missing, stuck)?;
        sleep(Duration::from_millis(20)).await;
    }
}

struct Observed {
    acknowledged: Arc<Arrivals>,
    fed: Arc<Arrivals>,
    consumed: Arc<Arrivals>,
    windows: Latencies,
    dropped: u64,
    elapsed: Duration,
}

impl Observed {
    fn summarize(self, bench: &LiveBench, spent: &[Spent], log: Option<Spent>) -> anyhow::Result<Report> {
        let [edge, processor, query, load] = spent else { anyhow::bail!("four processes are measured") };
        let events = self.fed.times_us.len() as u64;
        let none = "no event came";
        Ok(Report {
            bench: "live",
            rate_per_s: bench.rate,
            events_per_request: bench.batch,
            keys: bench.keys,
            records_per_s: count(events) / self.elapsed.as_secs_f64(),
            feed: self.since_acknowledged(&self.fed, bench).percentiles().context(none)?,
            limit: self.since_acknowledged(&self.consumed, bench).percentiles().context(none)?,
            final_row: self.windows.percentiles(),
            dropped: self.dropped,
            cpu_s_per_million: query.cpu_s_per_million(events),
            peak_rss_mb: query.peak_rss_mb,
            cores_edge: edge.cores(),
            cores_processor: processor.cores(),
            cores_query: query.cores(),
            cores_log: log.map(|log| log.cores()),
            cores_load: load.cores(),
        })
    }

    /// Of those after the first tenth; what came before its acknowledgement did took no time.
    fn since_acknowledged(&self, arrivals: &Arrivals, bench: &LiveBench) -> Latencies {
        let (mut latencies, events) = (Latencies::default(), bench.batch as usize);
        let batches = self.acknowledged.times_us.len();
        for index in batches / 10 * events..batches * events {
            if let Some((came, known)) = arrivals.us(index).zip(self.acknowledged.us(index / events)) {
                latencies.add_one(Duration::from_micros(came.saturating_sub(known)));
            }
        }
        latencies
    }
}

impl super::Report for Report {
    fn show(&self) {
        let mut table = Table::new(&["", "p50 ms", "p95 ms", "p99 ms", "mean ms"]);
        let mut row = |name: &str, found: Option<&Percentiles>| {
            let ms = |ms: fn(&Percentiles) -> f64| maybe(found.map(ms), |ms| format!("{ms:.1}"));
            let all = [ms(|p| p.p50_ms), ms(|p| p.p95_ms), ms(|p| p.p99_ms), ms(|p| p.mean_ms)];
            table.row([vec![name.to_owned()], all.to_vec()].concat());
        };
        row("acknowledged → live feed", Some(&self.feed));
        row("acknowledged → bare consumer (limit)", Some(&self.limit));
        row("end of a 5 s window → final row in REST", self.final_row.as_ref());
        let cores = |cores: f64| format!("{cores:.2}");
        say(&format!(
            "{} events/s in batches of {}, {} services ({} events/s acknowledged, {} dropped by the feed)\n\n{table}\n\
             cores: edge {}, processor {}, query {}, log and store {}, load {}; query: {:.2} CPU s per million, peak RSS {} MB",
            whole(self.rate_per_s.into()),
            self.events_per_request,
            self.keys,
            whole(self.records_per_s),
            self.dropped,
            cores(self.cores_edge),
            cores(self.cores_processor),
            cores(self.cores_query),
            maybe(self.cores_log, cores),
            cores(self.cores_load),
            self.cpu_s_per_million,
            whole(self.peak_rss_mb),
        ));
    }
}
