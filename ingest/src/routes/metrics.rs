//! `POST /api/v1/metrics/ingest`: the good events of a request go to the log, the bad ones are named in the answer.

mod answer;

use crate::{
    Edge,
    admission::Reservation,
    body::{self, Incoming},
    content::{Content, Encoding},
    decode::decode,
    delivery::{Delivery, Outcome},
    edge::Shared,
    events::{Parsed, Rejections, Rules, parse},
    phases::{Laps, Phase},
};
use answer::Answer;
use axum::{
    extract::{Request, State},
    http::HeaderMap,
};
use chrono::Utc;
use millrace_tenancy::{
    Access,
    http::{ApiError, ApiKey},
};
use std::{sync::Arc, time::Instant};

pub async fn ingest(State(edge): State<Edge>, request: Request) -> Result<Answer, ApiError> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut body = Incoming::new(&parts.headers, body);
    let answer = edge.ingest(&parts.headers, &mut body, started).await;
    if answer.is_err() {
        body.discard().await;
    }
    answer
}

impl Shared {
    /// Who is it, may they, is there room: only then is the body looked at.
    async fn ingest(
        &self,
        headers: &HeaderMap,
        body: &mut Incoming,
        started: Instant,
    ) -> Result<Answer, ApiError> {
        let key = ApiKey::from_headers(headers)?;
        let access = self.authorize(&key).await?;
        let _request = self.enter()?;
        let content = Content::of(headers)?;
        let mut laps = Laps::start(started);
        laps.end(Phase::Authenticate, Instant::now());
        let (mut parsed, in_flight) = self.read(content, body, access, &mut laps).await?;
        self.spend(&key, parsed.count)?;
        self.reject_unknown(&access, &mut parsed).await?;
        self.metrics.count_rejected(parsed.rejections.count());
        if parsed.is_empty() {
            return Answer::without_records(parsed);
        }
        laps.end(Phase::Parse, Instant::now());
        let (outcome, rejections) = self.deliver(parsed, in_flight, &mut laps).await?;
        if outcome.unacknowledged == 0 {
            self.metrics.phases.observe(&laps);
            self.metrics.acknowledged_seconds.observe(started.elapsed().as_secs_f64());
        }
        Answer::new(outcome, rejections, self.log.origin())
    }

    async fn authorize(&self, key: &ApiKey) -> Result<Access, ApiError> {
        let access = key.access(&self.directory).await?;
        if !access.ingest {
            return Err(ApiError::forbidden("The key may not ingest"));
        }
        self.spend(key, 0)?;
        Ok(access)
    }

    /// Counts events against what the key may send.
    fn spend(&self, key: &ApiKey, events: usize) -> Result<(), ApiError> {
        let Some(rates) = &self.rates else { return Ok(()) };
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        rates.take(key.digest(), events, Instant::now()).map_err(answer::too_fast)
    }

    /// One of the requests in flight.
    fn enter(&self) -> Result<Reservation, ApiError> {
        if self.is_closing() {
            return Err(answer::closing());
        }
        self.requests.reserve(1).ok_or_else(body::busy)
    }

    /// The events of a body, and the bytes that they have in flight.
    async fn read(
        &self,
        content: Content,
        body: &mut Incoming,
        access: Access,
        laps: &mut Laps,
    ) -> Result<(Parsed, Reservation), ApiError> {
        let mut in_flight = self.bytes.reserve(0).ok_or_else(body::busy)?;
        let limits =
            body::Limits { bytes_max: self.settings.body_bytes_max, timeout: self.settings.body_timeout() };
        let bytes = body.read(limits, &mut in_flight).await?;
        laps.end(Phase::Read, Instant::now());
        let rules = self.rules(access);
        // How large a compressed body is shows too late.
        let size = if content.encoding == Encoding::Identity { bytes.len() } else { usize::MAX };
        let read = move || -> Result<_, ApiError> {
            let body = decode(content.encoding, bytes, limits.bytes_max, &mut in_flight)
                .map_err(answer::undecodable)?;
            let parsed = parse(content.format, &body, &rules).map_err(answer::refused)?;
            Ok((parsed, in_flight))
        };
        self.work(size, read).await?
    }

    fn rules(&self, access: Access) -> Rules {
        Rules {
            access,
            now: Utc::now().into(),
            future_skew: self.settings.future_skew(),
            events_max: self.settings.events_max,
        }
    }

    /// A key for all workspaces can name one that does not exist; a workspace's own key can't.
    async fn reject_unknown(&self, access: &Access, parsed: &mut Parsed) -> Result<(), ApiError> {
        if access.workspace.is_none() && !parsed.is_empty() {
            let known = self.directory.known(&parsed.workspaces()).await?;
            parsed.reject_unknown(&known);
        }
        Ok(())
    }

    /// Gives the records to the log and waits, but not for longer than a delivery may take.
    async fn deliver(
        &self,
        parsed: Parsed,
        in_flight: Reservation,
        laps: &mut Laps,
    ) -> Result<(Outcome, Rejections), ApiError> {
        let delivery = Delivery::new(parsed.len(), Arc::clone(&self.metrics), in_flight);
        let (log, reports, bytes) = (Arc::clone(&self.log), Arc::clone(&delivery), parsed.size_bytes());
        let append = move || {
            log.append(&parsed, &reports);
            parsed.rejections
        };
        let rejections = self.work(bytes, append).await?;
        laps.end(Phase::Append, Instant::now());
        if tokio::time::timeout(self.settings.delivery_timeout(), delivery.settled()).await.is_err() {
            tracing::debug!("the log has not answered for every record in time");
        }
        laps.end(Phase::Acknowledge, Instant::now());
        Ok((delivery.outcome(), rejections))
    }
}
