//! Performs a phase's plan. Faults go on while the next ones begin; those of one process come one after the other.

use super::{
    load::Cast,
    plan::{Fault, Phase, Step, Target},
    role::Role,
    server::Server,
    site::Site,
    storage::Storage,
    tell,
};
use crate::harness::{Signal, until};
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream::FuturesUnordered};
use std::time::Duration;
use tokio::time::{Instant, interval, sleep, sleep_until};

/// For what needs a server that may be down for a fault of its own.
const PATIENCE: Duration = Duration::from_secs(120);
const TEND_INTERVAL: Duration = Duration::from_millis(500);

/// Returns when the last fault is over and the phase's length has passed.
pub async fn perform(site: &Site, phase: &Phase, cast: &Cast) -> Result<()> {
    let began = Instant::now();
    let faults = phase.steps.iter().map(async |step| {
        sleep_until(began + step.at).await;
        happen(site, step, cast).await.with_context(|| step.fault.to_string())
    });
    let mut going_on: FuturesUnordered<_> = faults.collect();
    let mut tending = interval(TEND_INTERVAL);
    while !going_on.is_empty() || began.elapsed() < phase.length {
        tokio::select! {
            Some(ended) = going_on.next() => ended?,
            _ = tending.tick() => site.tend()?,
        }
    }
    Ok(())
}

async fn happen(site: &Site, Step { at, fault }: &Step, cast: &Cast) -> Result<()> {
    let began = Instant::now();
    match *fault {
        Fault::Kill { target, down } => match process(site, target) {
            Process::Role(role) => {
                let _busy = role.busy.lock().await;
                role.kill()?;
                sleep(down).await;
                role.start()?;
            }
            Process::Server(server) => {
                let _busy = server.busy.lock().await;
                server.kill().await?;
                sleep(down).await;
                server.start().await?;
            }
        },
        Fault::Restart { target } => restart(site, process(site, target)).await?,
        Fault::Pause { target, length } => pause(process(site, target), length).await?,
        Fault::DiskFull { .. } | Fault::BucketAway { .. } => {
            let _busy = site.storage_busy.lock().await;
            archive_fault(&site.storage, *fault).await?;
        }
        Fault::LateWorkspace => {
            until("the late workspace is created", PATIENCE, async || site.create_late_workspace(cast).await)
                .await?;
        }
    }
    tell(&format!("{:>7.1} s  {fault}, over after {:.1} s", at.as_secs_f64(), began.elapsed().as_secs_f64()));
    Ok(())
}

enum Process<'a> {
    Role(&'a Role),
    Server(&'a Server),
}

fn process(site: &Site, target: Target) -> Process<'_> {
    match target {
        Target::Broker => Process::Server(&site.servers.kafka),
        Target::Database => Process::Server(&site.servers.postgres),
        role => Process::Role(&site.roles[&role]),
    }
}

async fn restart(site: &Site, process: Process<'_>) -> Result<()> {
    match process {
        Process::Role(role) => {
            let _busy = role.busy.lock().await;
            if let Some(status) = role.ended()? {
                site.note_end(format!("{} ended by itself: {status}", role.name()));
            } else {
                let status = role.terminate().await?;
                if !status.success() {
                    site.note_end(format!("{} ended with {status} after SIGTERM", role.name()));
                }
            }
            role.start()
        }
        Process::Server(server) => {
            let _busy = server.busy.lock().await;
            server.stop().await?;
            server.start().await
        }
    }
}

async fn pause(process: Process<'_>, length: Duration) -> Result<()> {
    match process {
        Process::Role(role) => {
            let _busy = role.busy.lock().await;
            if role.ended()?.is_some() {
                return Ok(());
            }
            role.signal(Signal::Stop)?;
            sleep(length).await;
            role.signal(Signal::Continue)
        }
        Process::Server(server) => {
            let _busy = server.busy.lock().await;
            server.signal(Signal::Stop)?;
            sleep(length).await;
            server.signal(Signal::Continue)
        }
    }
}

async fn archive_fault(storage: &Storage, fault: Fault) -> Result<()> {
    match (storage, fault) {
        (Storage::Disk(disk), Fault::DiskFull { length }) => {
            disk.fill()?;
            sleep(length).await;
            disk.free()?;
        }
        (Storage::Bucket(bucket), Fault::BucketAway { length }) => {
            bucket.set_away(true);
            sleep(length).await;
            bucket.set_away(false);
        }
        _ => {}
    }
    Ok(())
}
