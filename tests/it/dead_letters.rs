//! Records that can't be counted go to the dead-letter topic as they were; nothing stops behind them.

use crate::harness::{
    ADMIN_KEY, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, count, header, metric,
    metric_at, until,
};
use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use millrace_schemas::dead_letter::{ERROR, REASON, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC};
use rdkafka::{Message as _, message::OwnedMessage};
use serde_json::Value;
use uuid::Uuid;

/// (reason, payload)
fn uncountable() -> Vec<(&'static str, Vec<u8>)> {
    let with = |field: &str, value: Value| {
        let mut record = metric("select 1");
        record[field] = value;
        record.to_string().into_bytes()
    };
    vec![
        ("invalid", b"\xff\x00 neither text nor JSON".to_vec()),
        ("invalid", b"{\"id\": \"cut sho".to_vec()),
        ("invalid", b"[]".to_vec()),
        ("invalid", b"".to_vec()),
        ("invalid", with("duration_ms", (-1).into())),
        ("invalid", with("status", "splendid".into())),
        ("invalid", with("query_text", Value::Null)),
        ("unknown_workspace", with("workspace_id", Uuid::from_u128(1).to_string().into())),
        ("future", metric_at("select 1", Utc::now() + TimeDelta::days(365)).to_string().into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_their_bytes_and_stop_nothing() -> Result<()> {
    let installation = Installation::create("dead_letters").await?;
    let up = installation.start("up", &[]).await?;
    let uncountable = uncountable();
    // One key for all of them and the good one: they are in one partition, the good one last.
    let good = metric("select 'good'").to_string().into_bytes();
    let payloads = uncountable.iter().map(|(_, payload)| payload.as_slice()).chain([good.as_slice()]);
    installation.log.produce("any key", payloads).await?;

    let letters = installation.log.wait_for(&installation.topics.dead_letters, uncountable.len()).await?;
    ensure!(letters.len() == uncountable.len(), "{} dead letters", letters.len());
    for (offset, (reason, payload)) in uncountable.iter().enumerate() {
        check_letter(&letters, &installation.topics.metrics, offset, reason, payload)?;
    }
    let api = up.api(ADMIN_KEY);
    until("the good record is counted, and only it", PATIENCE, async || {
        let counted =
            count(&api, DEVELOPMENT_WORKSPACE, &format!("window=5s&service_id={DEVELOPMENT_SERVICE}"))
                .await?;
        ensure!(counted == 1, "{counted} are");
        Ok(())
    })
    .await
}

/// There is exactly one letter from this offset, and all is right with it.
fn check_letter(
    letters: &[OwnedMessage],
    topic: &str,
    offset: usize,
    reason: &str,
    payload: &[u8],
) -> Result<()> {
    let offset = offset.to_string();
    let mut of_offset =
        letters.iter().filter(|letter| header(letter, SOURCE_OFFSET).as_deref() == Some(&offset));
    let letter = of_offset.next().with_context(|| format!("no dead letter of offset {offset}"))?;
    ensure!(of_offset.next().is_none(), "two dead letters of offset {offset}");
    ensure!(
        header(letter, REASON).as_deref() == Some(reason),
        "offset {offset}: {:?}",
        header(letter, REASON)
    );
    ensure!(letter.payload().unwrap_or_default() == payload, "offset {offset}: other bytes");
    ensure!(letter.key() == Some(b"any key"), "offset {offset}: another key");
    ensure!(header(letter, SOURCE_TOPIC).as_deref() == Some(topic), "offset {offset}: another topic");
    ensure!(header(letter, SOURCE_PARTITION).is_some_and(|text| text.parse::<i32>().is_ok()), "no partition");
    ensure!(header(letter, ERROR).is_some_and(|text| !text.is_empty()), "no word on what is wrong");
    Ok(())
}
