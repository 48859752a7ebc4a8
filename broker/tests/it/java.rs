//! Kafka's own tools, from Kafka's own jars: the Java client, and Kafka's own reader of our segment files.

use crate::harness::{Backend, Kind, kafka_jars, on_each_backend, program, run};
use anyhow::{Context as _, Result, ensure};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

on_each_backend!(performance, verifiable, administration, transactional);

const LIMIT: Duration = Duration::from_secs(120);
const RECORDS: usize = 20_000;

/// Kafka's tools, by their classes.
struct Tools {
    java: PathBuf,
    class_path: String,
}

impl Tools {
    fn find(test: &str) -> Option<Self> {
        let (jars, java) = kafka_jars(test).zip(program(test, "java"))?;
        Some(Self { java, class_path: format!("{}/*", jars.display()) })
    }

    fn run(&self, class: &str, arguments: &[&str]) -> Result<String> {
        let quick =
            ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &self.class_path, class];
        run(&self.java, &[&quick[..], arguments].concat(), LIMIT)
    }
}

fn performance(backend: &Backend) -> Result<()> {
    let Some(tools) = Tools::find("java::performance") else { return Ok(()) };
    let (topic, count) = (backend.topic(3)?, RECORDS.to_string());
    let servers = format!("bootstrap.servers={}", backend.bootstrap);
    for codec in ["none", "lz4", "zstd", "snappy", "gzip"] {
        let codec = format!("compression.type={codec}");
        let said = tools.run(
            "org.apache.kafka.tools.ProducerPerformance",
            &[
                "--topic",
                &topic,
                "--num-records",
                &count,
                "--record-size",
                "300",
                "--throughput",
                "-1",
                "--producer-props",
                &servers,
                "acks=all",
                "linger.ms=5",
                &codec,
            ],
        )?;
        ensure!(said.contains(&format!("{RECORDS} records sent")), "{codec}: {said}");
        if codec == "compression.type=none" {
            eprintln!("{said}");
        }
    }
    let all = (5 * RECORDS).to_string();
    let group = backend.unique("g");
    let arguments = [
        "--bootstrap-server",
        &backend.bootstrap,
        "--topic",
        &topic,
        "--num-records",
        &all,
        "--group",
        &group,
    ];
    let said = tools.run("org.apache.kafka.tools.ConsumerPerformance", &arguments)?;
    let last = said.lines().last().context("no output")?;
    let consumed: usize = last.split(", ").nth(4).context("no count of records")?.trim().parse()?;
    ensure!(consumed >= 5 * RECORDS, "{said}");
    Ok(())
}

/// Each record acknowledged and each record consumed is named.
fn verifiable(backend: &Backend) -> Result<()> {
    let Some(tools) = Tools::find("java::verifiable") else { return Ok(()) };
    let (topic, group) = (backend.topic(2)?, backend.unique("g"));
    let servers = ["--bootstrap-server", &backend.bootstrap, "--topic", &topic];
    let said = tools.run(
        "org.apache.kafka.tools.VerifiableProducer",
        &[&servers[..], &["--max-messages", "1000", "--acks", "-1"]].concat(),
    )?;
    ensure!(said.matches("producer_send_success").count() == 1000, "{said}");
    let arguments =
        ["--group-id", &group, "--max-messages", "1000", "--reset-policy", "earliest", "--verbose"];
    let said =
        tools.run("org.apache.kafka.tools.VerifiableConsumer", &[&servers[..], &arguments].concat())?;
    ensure!(said.matches("\"name\":\"record_data\"").count() >= 1000, "{said}");
    ensure!(said.contains("offsets_committed"), "{said}");
    Ok(())
}

fn administration(backend: &Backend) -> Result<()> {
    let Some(tools) = Tools::find("java::administration") else { return Ok(()) };
    let (topic, group) = (backend.unique("t"), backend.unique("g"));
    let at = ["--bootstrap-server", &backend.bootstrap];
    let with = |arguments: &[&'static str]| [&at[..], arguments].concat();
    let topics = "org.apache.kafka.tools.TopicCommand";
    let create =
        ["--create", "--partitions", "2", "--replication-factor", "1", "--config", "retention.ms=1000000"];
    tools.run(topics, &[&with(&create)[..], &["--topic", &topic]].concat())?;
    tools.run(topics, &[&with(&["--alter", "--partitions", "3"])[..], &["--topic", &topic]].concat())?;
    let said = tools.run(topics, &[&with(&["--describe"])[..], &["--topic", &topic]].concat())?;
    ensure!(said.contains("PartitionCount: 3") && said.contains("retention.ms=1000000"), "{said}");
    backend.produce(&topic, 300)?;
    let said =
        tools.run("org.apache.kafka.tools.GetOffsetShell", &[&at[..], &["--topic", &topic]].concat())?;
    let ends = said.lines().filter_map(|line| line.rsplit(':').next()?.parse::<u64>().ok());
    ensure!(ends.sum::<u64>() == 300, "{said}");

    let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let of_group = ["--group", &group, "--topic", &topic];
    let reset = ["--reset-offsets", "--to-earliest", "--execute"];
    tools.run(groups, &[&with(&reset)[..], &of_group].concat())?;
    let said = tools.run(groups, &[&with(&["--describe"])[..], &["--group", &group]].concat())?;
    ensure!(said.matches(topic.as_str()).count() == 3, "{said}");
    tools.run(groups, &[&with(&["--delete"])[..], &["--group", &group]].concat())?;

    let configs =
        ["--alter", "--add-config", "retention.ms=2000000", "--entity-type", "topics", "--entity-name"];
    tools.run("kafka.admin.ConfigCommand", &[&with(&configs)[..], &[&topic]].concat())?;
    tools.run(topics, &[&with(&["--delete"])[..], &["--topic", &topic]].concat())?;
    Ok(())
}

/// The Java client's transactions; and Kafka reads our files, control batches and all.
fn transactional(backend: &Backend) -> Result<()> {
    let Some(tools) = Tools::find("java::transactional") else { return Ok(()) };
    let (topic, id) = (backend.topic(1)?, backend.unique("tx"));
    let servers = format!("bootstrap.servers={}", backend.bootstrap);
    let arguments =
        ["--topic", &topic, "--num-records", "2000", "--record-size", "100", "--throughput", "-1"];
    let transactions = [
        "--transactional-id",
        &id,
        "--transaction-duration-ms",
        "10",
        "--producer-props",
        &servers,
        "linger.ms=1",
    ];
    let said =
        tools.run("org.apache.kafka.tools.ProducerPerformance", &[&arguments[..], &transactions].concat())?;
    ensure!(said.contains("2000 records sent"), "{said}");
    ensure!(backend.read(&topic, 2000)?.len() == 2000);
    let end = backend.watermarks(&topic, 0)?.1;
    ensure!(end > 2000, "no transaction markers before {end}");
    match (&backend.folder, backend.kind) {
        (Some(folder), Kind::Embedded) => read_by_kafka(&tools, folder, &topic),
        _ => Ok(()),
    }
}

fn read_by_kafka(tools: &Tools, folder: &Path, topic: &str) -> Result<()> {
    let segment = find(&folder.join("topics").join(topic), "0/00000000000000000000.log")?;
    let files = segment.display().to_string();
    let said =
        tools.run("org.apache.kafka.tools.DumpLogSegments", &["--files", &files, "--deep-iteration"])?;
    ensure!(
        said.contains("endTxnMarker: COMMIT"),
        "no marker: {}",
        said.chars().take(2000).collect::<String>()
    );
    ensure!(!said.contains("isvalid: false"), "an invalid batch");
    let records = said.lines().filter(|line| line.starts_with("| offset")).count();
    ensure!(records > 2000, "{records} records");
    Ok(())
}

/// The one file below `folder` whose path ends so.
fn find(folder: &Path, end: &str) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.ends_with(end) {
                return Ok(path);
            }
            folders.extend(path.is_dir().then_some(path));
        }
    }
    anyhow::bail!("no {end} in {}", folder.display())
}
