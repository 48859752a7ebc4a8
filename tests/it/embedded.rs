//! `millrace up` with nothing given: the log and the store are in the process, their data in a folder. What a newcomer
//! does with it, and what may happen to it: killed, started twice, no port, no place.

use crate::harness::{
    Api, DEVELOPMENT_WORKSPACE, PATIENCE, Process, Signal, WORKSPACE_KEY, count, free_port, metric, until,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const END_WITHIN: Duration = Duration::from_secs(15);
const KILLS: usize = 5;
const BATCH: usize = 20;

/// A folder in which `millrace up` is run again and again.
struct Home {
    folder: TempDir,
    log_port: u16,
}

impl Home {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, log_port: free_port()? })
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn arguments(&self, log_port: u16, more: &[&str]) -> Vec<String> {
        let log_listen = format!("127.0.0.1:{log_port}");
        let mut arguments =
            ["--dev", "--data-dir", "data", "--log-listen", &log_listen].map(str::to_owned).to_vec();
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        arguments
    }

    fn launch(&self, log_port: u16, more: &[&str]) -> Result<Process> {
        Process::launch(self.folder.path(), "up", &self.arguments(log_port, more), &[])
    }

    async fn start(&self, more: &[&str]) -> Result<Process> {
        let up = self.launch(self.log_port, more)?;
        up.ready().await?;
        Ok(up)
    }

    /// Starts what can't run, and returns what it says.
    async fn refused(&self, log_port: u16) -> Result<String> {
        let up = self.launch(log_port, &[])?;
        let status = up.ended(PATIENCE).await?;
        ensure!(!status.success(), "it ran, and ended with {status}");
        up.log()
    }
}

async fn counted(api: &Api, wanted: usize) -> Result<()> {
    until(&format!("{wanted} records are counted"), PATIENCE, async || {
        let counted = count(api, DEVELOPMENT_WORKSPACE, "window=5m").await?;
        ensure!(usize::try_from(counted)? == wanted, "{counted} are");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_is_there_after_a_clean_end() -> Result<()> {
    let home = Home::new()?;
    for run in 1..=3 {
        let up = home.start(&[]).await?;
        let api = up.api(WORKSPACE_KEY);
        api.ingest_all(&[metric("select 'embedded'")]).await?;
        counted(&api, run).await?;
        up.signal(Signal::Terminate)?;
        let status = up.ended(END_WITHIN).await?;
        ensure!(status.success(), "it ended with {status}: {}", up.log()?);
    }
    for part in ["log", "store", "archive"] {
        ensure!(home.data_dir().join(part).is_dir(), "no {part} in the data folder");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_counted_once_however_often_it_is_killed() -> Result<()> {
    let home = Home::new()?;
    let mut acknowledged = 0;
    // The batch that a kill left without an answer is sent again, with its ids.
    let mut unanswered = batch();
    for kill in 0..KILLS {
        let up = home.start(&[]).await?;
        let api = up.api(WORKSPACE_KEY);
        // A different number of batches before each kill, so that it comes at different moments of the processor's work.
        let batches_before = 3 + 7 * kill;
        let killed = async {
            until("enough was sent", PATIENCE, async || {
                let taken = api.counter("queryvault_metrics_ingested_total", &[]).await?;
                ensure!(taken >= (batches_before * BATCH) as f64, "{taken} records");
                Ok(())
            })
            .await?;
            up.kill()
        };
        let sending = async {
            while is_taken(&api, &unanswered).await {
                acknowledged += BATCH;
                unanswered = batch();
            }
        };
        tokio::join!(killed, sending).0?;
    }
    let up = home.start(&[]).await?;
    let api = up.api(WORKSPACE_KEY);
    api.ingest_all(&unanswered).await?;
    acknowledged += BATCH;
    counted(&api, acknowledged).await?;
    // What is counted after everything before it comes last: nothing follows it.
    api.ingest_all(&[metric("select 'mark'")]).await?;
    counted(&api, acknowledged + 1).await
}

fn batch() -> Vec<Value> {
    (0..BATCH).map(|_| metric("select 'killed'")).collect()
}

async fn is_taken(api: &Api, batch: &[Value]) -> bool {
    matches!(api.ingest(batch).await, Ok(response) if response.status() == 202)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_fills_every_service() -> Result<()> {
    let home = Home::new()?;
    let up = home.start(&["--demo"]).await?;
    let api = up.api(WORKSPACE_KEY);
    for name in ["storefront", "checkout", "accounts", "reporting"] {
        until(&format!("{name} has windows of the last minutes"), PATIENCE, async || {
            let services = api.list(&format!("/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/services")).await?;
            let (service, _) =
                services.iter().find(|(_, found)| *found == name).context("no such service")?;
            let windows = format!("window=1m&service_id={service}");
            let counted = count(&api, DEVELOPMENT_WORKSPACE, &windows).await?;
            ensure!(counted > 0, "none");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused() -> Result<()> {
    let home = Home::new()?;
    let up = home.start(&[]).await?;
    let said = home.refused(free_port()?).await?;
    ensure!(said.contains("in use by process"), "{said}");
    up.api(WORKSPACE_KEY).ingest_all(&[metric("select 'still there'")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() -> Result<()> {
    let home = Home::new()?;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", home.log_port))?;
    let said = home.refused(home.log_port).await?;
    ensure!(said.contains("--log-listen") && said.contains(&home.log_port.to_string()), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_is_named() -> Result<()> {
    let home = Home::new()?;
    std::fs::write(home.data_dir(), "a file")?;
    let said = home.refused(home.log_port).await?;
    ensure!(said.contains(&home.data_dir().display().to_string()) && said.contains("--data-dir"), "{said}");
    Ok(())
}

/// A file system of its own, as small as it is said to be.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None where this user may not mount.
    fn mount(folder: &Path, size: &str) -> Result<Option<Self>> {
        std::fs::create_dir_all(folder)?;
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        Ok(mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder.to_owned())))
    }

    fn remount(&self, size: &str) -> Result<()> {
        let options = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status()?;
        ensure!(status.success(), "mount -o {options}: {status}");
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").args(["-l"]).arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_answered_and_what_was_acknowledged_stays() -> Result<()> {
    let home = Home::new()?;
    let log_dir = home.data_dir().join("log");
    let Some(disk) = Tmpfs::mount(&log_dir, "4m")? else {
        crate::harness::say_skipped("full disk", "this user may not mount a tmpfs");
        return Ok(());
    };
    let up = home.start(&[]).await?;
    let api = up.api(WORKSPACE_KEY);
    let mut acknowledged = 0;
    // Text that does not compress well.
    let noise = || (0..40).map(|_| uuid::Uuid::new_v4().to_string()).collect::<String>();
    let refused = until("the disk is full", PATIENCE, async || {
        let batch: Vec<_> = (0..100).map(|_| metric(&noise())).collect();
        let response = api.ingest(&batch).await?;
        let status = response.status();
        acknowledged += if status == 202 { batch.len() } else { 0 };
        ensure!(status != 202, "{acknowledged} records were taken");
        Ok((status, response.text().await?))
    })
    .await?;
    ensure!(refused.0 == 503, "a full disk is answered {} {}", refused.0, refused.1);
    disk.remount("64m")?;
    until("records are taken again", PATIENCE, async || api.ingest_all(&[metric("select 'space'")]).await)
        .await?;
    until("all that was acknowledged is counted", PATIENCE, async || {
        let counted = usize::try_from(count(&api, DEVELOPMENT_WORKSPACE, "window=5m").await?)?;
        ensure!(counted > acknowledged, "{counted} of {acknowledged} and one more");
        Ok(())
    })
    .await
}
