//! Read your write, at the end of a phase: whatever has happened, each kept token is contained.

use super::{load::Journal, plan::Target, site::Site};
use crate::harness::until;
use anyhow::{Result, ensure};
use std::time::Duration;

/// Everything has come to rest: each is contained already, if nobody has forgotten it.
const CONTAINED_WITHIN: Duration = Duration::from_secs(60);

pub async fn must_be_contained(site: &Site, journal: &Journal) -> Result<String> {
    let api = site.api(Target::Query);
    let tokens = journal.tokens();
    ensure!(!tokens.is_empty(), "no producer has got a token");
    for (workspace, token) in &tokens {
        let path = format!("/api/v1/workspaces/{workspace}/aggregations?window=5m&after={token}&wait=5s");
        until("a kept token is contained", CONTAINED_WITHIN, async || {
            let (status, answer) = api.get_answer(&path).await?;
            ensure!(status == 200, "{token}: {status} {answer}");
            Ok(())
        })
        .await?;
    }
    Ok(format!("{} kept tokens are contained; {}", tokens.len(), journal.witnessed()))
}
