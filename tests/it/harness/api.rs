//! The HTTP API as a client uses it.

use anyhow::{Context as _, Result, ensure};
use reqwest::{RequestBuilder, Response, header::CONTENT_TYPE};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};

/// May read and write every workspace; exists with `--dev` only.
pub const ADMIN_KEY: &str = "dev-admin-key";
/// May read and write the development workspace; exists with `--dev` only.
pub const WORKSPACE_KEY: &str = "test-api-key-12345";

const INGEST: &str = "/api/v1/metrics/ingest";
/// No answer may take longer, not even that something is away.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// One server as the holder of one key sees it.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    key: String,
}

impl Api {
    /// With an empty key none is sent.
    pub fn new(base: &str, key: &str) -> Self {
        let client =
            reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().expect("a client without options");
        Self { client, base: base.to_owned(), key: key.to_owned() }
    }

    /// The JSON of an answer that must be 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = self.get_answer(path).await?;
        ensure!(status == 200, "GET {path}: {status} {body}");
        serde_json::from_str(&body).with_context(|| format!("GET {path}: {body}"))
    }

    /// Id to name of what a route lists.
    pub async fn list(&self, path: &str) -> Result<HashMap<String, String>> {
        let answer = self.get(path).await?;
        let listed = answer.as_array().or_else(|| answer.as_object()?.values().find_map(Value::as_array));
        let listed = listed.with_context(|| format!("GET {path} lists nothing: {answer}"))?;
        let pairs = listed
            .iter()
            .map(|item| Some((item["id"].as_str()?.to_owned(), item["name"].as_str()?.to_owned())));
        pairs.collect::<Option<_>>().with_context(|| format!("GET {path}: without id or name: {answer}"))
    }

    pub async fn get_status(&self, path: &str) -> Result<u16> {
        Ok(self.get_answer(path).await?.0)
    }

    /// Status and body.
    pub async fn get_answer(&self, path: &str) -> Result<(u16, String)> {
        let response = self.authorized(self.client.get(format!("{}{path}", self.base))).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// Sends records to the edge and returns its answer, whatever it is.
    pub async fn ingest(&self, metrics: &[Value]) -> Result<Response> {
        self.ingest_body("application/json", json!({"metrics": metrics}).to_string().into(), &[]).await
    }

    /// The same with a body and further headers of the caller's choice.
    pub async fn ingest_body(
        &self,
        content_type: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let request =
            self.client.post(format!("{}{INGEST}", self.base)).header(CONTENT_TYPE, content_type).body(body);
        let request = headers
            .iter()
            .fold(self.authorized(request), |request, (name, value)| request.header(*name, *value));
        request.send().await.context("send records to the edge")
    }

    /// Sends records that must all be taken.
    pub async fn ingest_all(&self, metrics: &[Value]) -> Result<()> {
        let response = self.ingest(metrics).await?;
        let (status, answer) = (response.status(), response.text().await?);
        ensure!(status == 202, "the edge answered {status}: {answer}");
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(
            answer["ingested"] == metrics.len() && answer["dropped"] == 0,
            "not all were taken: {answer}"
        );
        Ok(())
    }

    /// The sum of a Prometheus metric over the series that have all of these labels.
    pub async fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let (status, text) = self.get_answer("/metrics").await?;
        ensure!(status == 200, "GET /metrics: {status}");
        let series = text.lines().filter(|line| is_series(line, name, labels));
        let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        if self.key.is_empty() { request } else { request.bearer_auth(&self.key) }
    }
}

fn is_series(line: &str, name: &str, labels: &[(&str, &str)]) -> bool {
    let Some(rest) = line.strip_prefix(name) else { return false };
    (rest.starts_with('{') || rest.starts_with(' '))
        && labels.iter().all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
}
