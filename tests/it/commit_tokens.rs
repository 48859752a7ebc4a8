//! Read your write: the token of an ingest answer holds an answer back until the windows contain the records.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, Process, metric,
    until,
};
use anyhow::{Context as _, Result, ensure};
use millrace_schemas::CommitToken;
use serde_json::Value;

/// Ingests records and returns the answer's token.
async fn ingest(api: &Api, records: &[Value]) -> Result<String> {
    let response = api.ingest(records).await?;
    let answer: Value = response.json().await?;
    ensure!(answer["ingested"] == records.len(), "{answer}");
    Ok(answer["token"].as_str().with_context(|| format!("no token: {answer}"))?.to_owned())
}

fn after(token: &str, wait: &str) -> String {
    format!(
        "/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/aggregations?window=5m&service_id={DEVELOPMENT_SERVICE}&after={token}&wait={wait}"
    )
}

/// The records counted in the first answer that is not 202; nothing is asked a second time.
async fn counted_after(api: &Api, token: &str) -> Result<i64> {
    let answer = until("the windows contain the records", PATIENCE, async || {
        let (status, body) = api.get_answer(&after(token, "5s")).await?;
        ensure!(status == 200, "{status} {body}");
        Ok(serde_json::from_str::<Value>(&body)?)
    })
    .await?;
    let buckets = answer["buckets"].as_array().context("no buckets")?;
    Ok(buckets.iter().filter_map(|bucket| bucket["query_count"].as_i64()).sum())
}

/// The token with other offsets.
fn altered(token: &str, change: impl FnOnce(&mut CommitToken)) -> Result<String> {
    let mut token = CommitToken::decode(token)?;
    change(&mut token);
    token.encode().context("too many partitions")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_a_token_contains_the_records() -> Result<()> {
    let installation = Installation::create("token_contains").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    let mut expected = 0;
    for round in 1..=6 {
        let records: Vec<Value> = (0..round).map(|_| metric("select 'mine'")).collect();
        let token = ingest(&api, &records).await?;
        expected += round;
        let counted = counted_after(&api, &token).await?;
        ensure!(counted == expected, "{counted} are counted, {expected} were ingested before");
        let token = ingest(&api, &records).await?;
        let counted = counted_after(&api, &token).await?;
        ensure!(counted == expected, "after duplicates {counted} are counted, not {expected}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_contained_too() -> Result<()> {
    let installation = Installation::create("token_letters").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    let token = ingest(&api, &[metric("select 'good'")]).await?;
    let partitions = installation.log.produce_to_each(|_| b"garbage".to_vec()).await?;
    let token = altered(&token, |token| {
        for partition in 0..partitions {
            *token.next.entry(partition).or_default() += 1;
        }
    })?;
    let counted = counted_after(&api, &token).await?;
    ensure!(counted == 1, "{counted} are counted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_contained_is_202_and_restarts_change_nothing() -> Result<()> {
    let installation = Installation::create("token_restart").await?;
    let edge = installation.start("ingest", &[]).await?;
    let query = installation.start("query", &[]).await?;
    let token = ingest(&edge.api(ADMIN_KEY), &[metric("select 1"), metric("select 2")]).await?;
    let (status, body) = query.api(ADMIN_KEY).get_answer(&after(&token, "200ms")).await?;
    let answer: Value = serde_json::from_str(&body)?;
    ensure!(status == 202 && answer["contained"] == false, "without a processor: {status} {body}");
    ensure!(answer["partitions"][0]["wanted"] == 2 && answer["partitions"][0]["reached"].is_null(), "{body}");

    let processor = installation.start("processor", &[]).await?;
    ensure!(counted_after(&query.api(ADMIN_KEY), &token).await? == 2, "with a processor");
    processor.kill()?;
    query.kill()?;

    // Who comes later reads what was told, though nobody tells anything any more.
    let query = installation.start("query", &[]).await?;
    ensure!(counted_after(&query.api(ADMIN_KEY), &token).await? == 2, "after a restart");
    let more = ingest(&edge.api(ADMIN_KEY), &[metric("select 3")]).await?;
    let (status, body) = query.api(ADMIN_KEY).get_answer(&after(&more, "200ms")).await?;
    ensure!(status == 202 && body.contains(r#""wanted":3,"reached":2"#), "a dead processor: {status} {body}");
    let _processor = installation.start("processor", &[]).await?;
    ensure!(counted_after(&query.api(ADMIN_KEY), &more).await? == 3, "with the next processor");
    ensure!(counted_after(&query.api(ADMIN_KEY), &token).await? == 3, "the old token still holds");
    Ok(())
}

/// Partitions move between processors, some of which die; no answer is early.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_hold_while_processors_come_and_go() -> Result<()> {
    let installation = Installation::create("token_rebalance").await?;
    let edge = installation.start("ingest", &[]).await?;
    let query = installation.start("query", &[]).await?;
    let (edge, api) = (edge.api(ADMIN_KEY), query.api(ADMIN_KEY));
    let processor = |name| installation.launch("processor", &["--instance-id", name]);
    let mut first = Some(processor("first")?);
    let mut second = None;
    let mut expected = 0;
    for round in 0..8 {
        let records: Vec<Value> = (0..100).map(|_| metric("select 'mine'")).collect();
        let token = ingest(&edge, &records).await?;
        expected += 100;
        match round {
            1 => second = Some(processor("second")?),
            3 => first.take().map_or(Ok(()), Process::kill)?,
            5 => first = Some(processor("first")?),
            6 => second.take().map_or(Ok(()), Process::kill)?,
            _ => {}
        }
        let counted = counted_after(&api, &token).await?;
        ensure!(counted == expected, "round {round}: {counted} are counted, {expected} were ingested before");
    }
    drop(first);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_named() -> Result<()> {
    let installation = Installation::create("token_bad").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    let token = ingest(&api, &[metric("select 1")]).await?;
    let past = altered(&token, |token| token.next.values_mut().for_each(|next| *next += 1_000))?;
    let nowhere = altered(&token, |token| token.next = [(4_000, 1)].into())?;
    let other = altered(&token, |token| {
        token.origin = millrace_schemas::token::Origin::of("another cluster", "millrace.metrics");
    })?;
    for (token, wait, expected) in [
        ("garbage", "1s", "damaged or no token"),
        (&token[..token.len() - 2], "1s", "damaged or no token"),
        (past.as_str(), "1s", "is past the log's end"),
        (nowhere.as_str(), "1s", "there is no partition 4000"),
        (other.as_str(), "1s", "it is not of the topic"),
        (token.as_str(), "31s", "Invalid wait '31s'"),
    ] {
        let (status, body) = api.get_answer(&after(token, wait)).await?;
        ensure!(status == 400 && body.contains(expected), "{expected}: {status} {body}");
    }
    Ok(())
}
