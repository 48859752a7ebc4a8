//! What PostgreSQL's background processes would do, which don't exist here: `VACUUM (ANALYZE)` table by table when
//! nobody wants the backend, and checkpoints, at an interval and when the write-ahead log grows.

use crate::{
    folder::Log,
    hub::{Hub, TurnError},
    schedule::Priority,
    wire::Frame,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// How often the log's size is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Tables with something to clean or to count, the neediest first.
const TABLES: &str = "SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables \
     WHERE n_dead_tup > 50 + n_live_tup / 10 OR n_mod_since_analyze > 50 + n_live_tup / 10 \
     OR n_ins_since_vacuum > 1000 + n_live_tup / 5 \
     ORDER BY n_dead_tup DESC LIMIT 1000";

/// Runs until the store closes.
pub async fn run(hub: Arc<Hub>, log: Log) {
    let closing = hub.closing.clone();
    let rounds = async {
        let interval = hub.settings.maintenance_interval;
        let mut next = Instant::now() + interval;
        loop {
            sleep(LOOK.min(interval)).await;
            let done = if Instant::now() >= next {
                next = Instant::now() + interval;
                round(&hub).await
            } else if log.megabytes().is_some_and(|megabytes| megabytes > hub.settings.limits.log_megabytes) {
                checkpoint(&hub, Priority::Own).await
            } else {
                Ok(())
            };
            if let Err(error) = done {
                tracing::warn!(%error, "maintenance of the embedded database failed; it is tried again later");
            }
        }
    };
    tokio::select! {
        () = closing.cancelled() => {}
        () = rounds => {}
    }
}

/// Writes everything to the files and shortens the log.
pub async fn checkpoint(hub: &Arc<Hub>, priority: Priority) -> Result<(), TurnError> {
    let started = Instant::now();
    hub.own_turn(priority).await?.run("CHECKPOINT").await?;
    tracing::debug!(ms = started.elapsed().as_millis(), "checkpoint");
    Ok(())
}

async fn round(hub: &Arc<Hub>) -> Result<(), TurnError> {
    let mut turn = quiet_turn(hub).await?;
    let tables: Vec<String> = turn.run(TABLES).await?.iter().filter_map(first_column).collect();
    drop(turn);
    for table in tables {
        let mut turn = quiet_turn(hub).await?;
        if let Err(error) = turn.run(&format!("VACUUM (ANALYZE) {table}")).await {
            tracing::warn!(table, %error, "a table could not be cleaned");
        }
    }
    quiet_turn(hub).await?.run("CHECKPOINT").await?;
    Ok(())
}

/// A turn when nobody else wants one; on a store that is never quiet, a turn like everybody's after a while.
async fn quiet_turn(hub: &Arc<Hub>) -> Result<crate::turn::Turn, TurnError> {
    match timeout(hub.settings.maintenance_interval / 4, hub.own_turn(Priority::Idle)).await {
        Ok(turn) => turn,
        Err(_) => hub.own_turn(Priority::Own).await,
    }
}

fn first_column(frame: &Frame) -> Option<String> {
    let value = frame.body().get(6..).filter(|_| frame.tag() == b'D')?;
    String::from_utf8(value.to_vec()).ok()
}
