//! The benchmarks at a tiny size: they run, and their last line is JSON with the named numbers. How fast is no test's matter.

use crate::harness::{Services, millrace};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// `millrace bench NAME ARGUMENTS… --json`, and the JSON.
async fn bench(name: &str, arguments: &[&str]) -> Result<Value> {
    let mut all = vec!["bench", name, "--json"];
    all.extend(arguments);
    let services = Services::given();
    if let Some(Services { kafka, database_url }) = &services {
        all.extend(["--kafka-brokers", kafka.as_str(), "--database-url", database_url.as_str()]);
    }
    let printed = millrace(&all.into_iter().map(str::to_owned).collect::<Vec<_>>()).await?;
    ensure!(printed.contains("| ---"), "no table: {printed}");
    let line = printed.lines().last().context("it prints something")?;
    let report: Value =
        serde_json::from_str(line).with_context(|| format!("the last line is JSON: {line}"))?;
    ensure!(report["bench"] == name, "{report}");
    Ok(report)
}

/// Each named number is there and above zero.
fn positive(report: &Value, names: &[&str]) -> Result<()> {
    for name in names {
        let number = report[name].as_f64().with_context(|| format!("{name} is a number in {report}"))?;
        ensure!(number > 0.0 && number.is_finite(), "{name} is {number}");
    }
    Ok(())
}

fn ordered(percentiles: &Value) -> Result<()> {
    positive(percentiles, &["p50_ms", "p95_ms", "p99_ms"])?;
    let of = |name: &str| percentiles[name].as_f64();
    ensure!(of("p50_ms") <= of("p95_ms") && of("p95_ms") <= of("p99_ms"), "{percentiles}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_processor() -> Result<()> {
    let report = bench("processor", &["--records", "5000", "--keys", "10"]).await?;
    ensure!(report["records"] == 5000 && report["keys"] == 10, "{report}");
    positive(&report, &["records_per_s", "limit_records_per_s", "limit_cpu_s_per_million", "peak_rss_mb"])
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_edge() -> Result<()> {
    let sizes = ["--connections", "1,4", "--batches", "20", "--batch-connections", "2", "--rate", "100"];
    let times = ["--seconds", "1", "--warm-up-seconds", "0", "--keys", "3"];
    let report = bench("ingest", &[&sizes[..], &times[..]].concat()).await?;
    positive(&report, &["records_per_s", "limit_records_per_s", "cpu_s_per_million", "peak_rss_mb"])?;
    let runs = report["runs"].as_array().context("there are runs")?;
    let shapes: Vec<_> = runs.iter().map(|run| (&run["connections"], &run["events_per_request"])).collect();
    ensure!(
        shapes
            == [
                (&1.into(), &1.into()),
                (&4.into(), &1.into()),
                (&4.into(), &1.into()),
                (&2.into(), &20.into())
            ]
    );
    for run in runs {
        ordered(run)?;
        positive(run, &["requests_per_s", "bytes_in_per_record"])?;
        positive(&run["phases_us"], &["authenticate", "read", "parse", "append", "acknowledge"])?;
        ensure!(run["refused"] == 0, "{run}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_live_feed() -> Result<()> {
    let report = bench("live", &["--rate", "200", "--batch", "10", "--keys", "5", "--seconds", "12"]).await?;
    ordered(&report)?;
    ordered(&report["limit"])?;
    // Whole windows of 5 s lie within 12 s; none is final in REST before it ended.
    ordered(&report["final_row"])?;
    positive(&report, &["records_per_s", "peak_rss_mb"])?;
    ensure!(report["dropped"] == 0, "{report}");
    Ok(())
}
