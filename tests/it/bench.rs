//! The benchmarks at a tiny size: they run, and their last line is JSON with the named numbers. How fast is no test's matter.

use crate::harness::{Services, millrace, python};
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
    let of = |name: &str| percentiles[name].as_f64().with_context(|| format!("{name} is in {percentiles}"));
    let [p50, p95, p99] = [of("p50_ms")?, of("p95_ms")?, of("p99_ms")?];
    // What a consumer has before the edge has said that the log has it took no time.
    ensure!(0.0 <= p50 && p50 <= p95 && p95 <= p99, "{percentiles}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_processor() -> Result<()> {
    let report = bench("processor", &["--records", "5000", "--keys", "10"]).await?;
    ensure!(report["records"] == 5000 && report["keys"] == 10, "{report}");
    // The kernel counts CPU time in steps of 10 ms: so few records can take the drain none.
    positive(&report, &["records_per_s", "limit_records_per_s", "cpu_s_per_million", "peak_rss_mb"])?;
    positive(&report, &["memcpy_records_per_s", "bytes_in_per_record", "bytes_out_per_record"])
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_edge() -> Result<()> {
    let sizes = ["--connections", "1,4", "--batches", "20", "--batch-connections", "2", "--rate", "100"];
    let times = ["--seconds", "2", "--warm-up-seconds", "1", "--keys", "3"];
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
        // On a busy machine the edge may refuse some, as it should.
        ensure!(run["refused"].is_u64(), "{run}");
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

#[tokio::test(flavor = "multi_thread")]
async fn of_the_archive() -> Result<()> {
    let report = bench("archive", &["--records", "5000", "--keys", "10"]).await?;
    let speeds = ["records_per_s", "limit_records_per_s", "writer_records_per_s"];
    positive(&report, &speeds)?;
    positive(&report, &["cpu_s_per_million", "peak_rss_mb", "bytes_in_per_record", "bytes_out_per_record"])
}

#[tokio::test(flavor = "multi_thread")]
async fn of_recovery() -> Result<()> {
    let report = bench("recovery", &["--records", "200000", "--keys", "10"]).await?;
    positive(
        &report,
        &["records_per_s", "limit_records_per_s", "first_commit_s", "caught_up_s", "peak_rss_mb"],
    )?;
    let of = |name: &str| report[name].as_f64().context("a number");
    ensure!(
        of("recovery_s")? <= of("caught_up_s")? && of("first_commit_s")? <= of("caught_up_s")?,
        "{report}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_queries() -> Result<()> {
    let mut arguments = vec!["--records", "5000", "--keys", "5", "--connections", "2", "--seconds", "1"];
    let python = python("bench::of_queries").map(|python| python.display().to_string());
    arguments.extend(python.iter().flat_map(|python| ["--python", python.as_str()]));
    let report = bench("query", &arguments).await?;
    let runs = report["runs"].as_array().context("there are runs")?;
    ensure!(runs.len() == 4, "{report}");
    for run in runs {
        ordered(run)?;
        positive(run, &["queries_per_s", "bytes_per_answer", "peak_rss_mb"])?;
    }
    for run in runs.iter().filter(|run| run["question"] != "newest 100 records, from memory") {
        ordered(&run["limit"])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_scale() -> Result<()> {
    let report =
        bench("scale", &["--records", "3000", "--keys", "7", "--partitions", "2", "--workspaces", "3"])
            .await?;
    let points = report["points"].as_array().context("there are points")?;
    let shapes: Vec<_> = points.iter().map(|p| [&p["keys"], &p["partitions"], &p["workspaces"]]).collect();
    ensure!(
        shapes
            == [[7, 4, 1], [100, 2, 1], [10_000, 4, 3]]
                .map(|shape| shape.map(Value::from))
                .each_ref()
                .map(|s| s.each_ref())
    );
    for point in points {
        positive(point, &["records_per_s", "peak_rss_mb", "final_rows", "windows_final_s"])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_footprint() -> Result<()> {
    let report = bench("footprint", &["--seconds", "1"]).await?;
    positive(&report, &["binary_mb"])?;
    let runs = report["runs"].as_array().context("there are runs")?;
    ensure!(runs.len() == 5, "{report}");
    runs.iter().try_for_each(|run| positive(run, &["ready_s", "idle_rss_mb"]))
}
