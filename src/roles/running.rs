//! The services that run, and the order in which they end: what was acknowledged is in the log before the processor ends.

use super::{
    Error, Shared,
    deadline::{self, Deadline},
    server::Server,
};
use crate::ops::{Ops, Phase};
use axum::Router;
use millrace_ingest::Edge;
use millrace_query::QueryService;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the query service is asked whether it has caught up.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(100);

type ProcessorTask = JoinSet<Result<(), millrace_processor::Error>>;

pub struct Running {
    edge: Option<Edge>,
    query: Option<QueryService>,
    /// Empty without that role.
    processor: ProcessorTask,
    processor_stop: CancellationToken,
}

impl Running {
    /// The log and the database must be prepared.
    pub fn start(shared: &Shared) -> Result<Self, Error> {
        let processor_stop = CancellationToken::new();
        Ok(Self {
            edge: start_edge(shared)?,
            query: start_query(shared)?,
            processor: start_processor(shared, &processor_stop),
            processor_stop,
        })
    }

    /// The routes of all services.
    pub fn router(&self) -> Router {
        let edge = self.edge.as_ref().map(Edge::router);
        let query = self.query.as_ref().map(QueryService::router);
        edge.into_iter().chain(query).fold(Router::new(), Router::merge)
    }

    /// Tells `ops` when all are ready, and waits for an end that nobody asked for.
    pub async fn ended(&mut self, ops: &Ops) -> Error {
        let ready = async {
            caught_up(self.query.as_ref()).await;
            ops.set_phase(Phase::Running);
            std::future::pending().await
        };
        tokio::select! {
            ended = processor_ended(&mut self.processor) => ended,
            never = ready => never,
        }
    }

    /// Stops taking requests, then flushes the edge, then lets the processor commit.
    pub async fn close(mut self, server: Server, deadline: &Deadline) -> Result<(), Error> {
        let query = async {
            if let Some(query) = self.query {
                query.close().await;
            }
        };
        let requests = async { tokio::join!(server.stop(), query) };
        if deadline.within(deadline::REQUESTS, requests).await.is_none() {
            tracing::warn!("requests or sockets did not end in time and are cut off");
        }
        if let Some(edge) = self.edge
            && deadline.within(deadline::EDGE, edge.close()).await.is_none()
        {
            tracing::warn!("the edge is cut off with records in flight");
        }
        self.processor_stop.cancel();
        match deadline.within(deadline::PROCESSOR, self.processor.join_next()).await {
            Some(None | Some(Ok(Ok(())))) => Ok(()),
            Some(Some(Ok(Err(error)))) => Err(Error::Processor(Box::new(error))),
            Some(Some(Err(error))) => Err(Error::Task(error)),
            None => {
                tracing::warn!("the processor was cut off; its next start goes on from the log");
                Ok(())
            }
        }
    }
}

async fn processor_ended(processor: &mut ProcessorTask) -> Error {
    match processor.join_next().await {
        None => std::future::pending().await,
        Some(Ok(Ok(()))) => Error::ProcessorEnded,
        Some(Ok(Err(error))) => Error::Processor(Box::new(error)),
        Some(Err(error)) => Error::Task(error),
    }
}

/// Waits until the query service knows what the log held when it started.
async fn caught_up(query: Option<&QueryService>) {
    while query.is_some_and(|query| !query.readiness().is_ready()) {
        tokio::time::sleep(CATCH_UP_INTERVAL).await;
    }
}

fn start_edge(shared: &Shared) -> Result<Option<Edge>, Error> {
    let Some(settings) = shared.plan.ingest.clone() else { return Ok(None) };
    let log = &shared.plan.installation.log;
    let edge = Edge::start(settings, log, shared.directory.clone(), &shared.registry);
    edge.map(Some).map_err(Error::Ingest)
}

fn start_query(shared: &Shared) -> Result<Option<QueryService>, Error> {
    let Some((settings, archive)) = &shared.plan.query else { return Ok(None) };
    let components = millrace_query::Components {
        log: shared.plan.installation.log.clone(),
        pool: shared.pool.clone(),
        directory: shared.directory.clone(),
        archive: archive.clone(),
        registry: shared.registry.clone(),
    };
    // Closed by `close`, after the server has begun to stop.
    let stop = CancellationToken::new();
    QueryService::start(settings, components, &stop).map(Some).map_err(Error::Query)
}

fn start_processor(shared: &Shared, stop: &CancellationToken) -> ProcessorTask {
    let mut task = ProcessorTask::new();
    if let Some(settings) = shared.plan.processor.clone() {
        let components = millrace_processor::Components {
            log: shared.plan.installation.log.clone(),
            pool: shared.pool.clone(),
            directory: shared.directory.clone(),
            registry: shared.registry.clone(),
        };
        task.spawn(millrace_processor::run(settings, components, stop.clone()));
    }
    task
}
