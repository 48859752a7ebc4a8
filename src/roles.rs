//! The roles as processes: all in one (`up`), or one each. Waits for the log and the database, prepares both, starts the
//! services, and ends them so that nothing acknowledged is lost.

mod banner;
mod deadline;
mod embedded;
mod plan;
mod running;
mod server;
mod startup;

pub use plan::{Ingest, Plan, Processor, Query, Up};

use crate::{
    demo,
    ops::{Checks, Ops, Phase},
    replay::edge::{Edge, EdgeError},
};
use banner::Banner;
use deadline::Deadline;
use embedded::Embedded;
use millrace_tenancy::{ADMIN_KEY, Directory, WORKSPACE};
use prometheus::Registry;
use rdkafka::error::KafkaError;
use running::Running;
use server::Server;
use sqlx::PgPool;
use std::{
    io::{self, Write},
    path::PathBuf,
    pin::pin,
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the settings of the log")]
    Log(#[from] millrace_log::SettingsError),
    #[error("opening the database")]
    Database(#[source] millrace_tenancy::Error),
    #[error("preparing the database")]
    Prepare(#[source] millrace_tenancy::Error),
    #[error("preparing the log")]
    Topics(#[source] Box<millrace_log::TopicsError>),
    #[error("starting the readiness checks")]
    Checks(#[source] KafkaError),
    #[error("registering metrics")]
    Metrics(#[from] prometheus::Error),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error("starting the ingest edge")]
    Ingest(#[source] millrace_ingest::Error),
    #[error("starting the query service")]
    Query(#[source] millrace_query::Error),
    #[error("--archive-url {0}")]
    ArchiveUrl(String),
    #[error("the processor failed")]
    Processor(#[source] Box<millrace_processor::Error>),
    #[error("the processor ended though nobody asked it to")]
    ProcessorEnded,
    #[error("a role died")]
    Task(#[from] tokio::task::JoinError),
    #[error("the folder {} can't be made: choose another one with --data-dir", folder.display())]
    DataDir { folder: PathBuf, source: io::Error },
    #[error("the embedded log")]
    EmbeddedLog(#[source] millrace_broker::Error),
    #[error("the embedded store")]
    EmbeddedStore(#[source] millrace_store::Error),
    #[error("starting the demo")]
    Demo(#[source] EdgeError),
    #[error("writing to standard output")]
    Stdout(#[source] io::Error),
}

/// What the roles share.
pub struct Shared {
    pub plan: Plan,
    pub pool: PgPool,
    pub directory: Directory,
    pub registry: Registry,
    pub ops: Arc<Ops>,
}

/// Runs what `plan` names until `shutdown`, or until one of them can't go on.
pub async fn run(mut plan: Plan, shutdown: CancellationToken) -> Result<(), Error> {
    tracing::info!(settings = ?plan, "starting");
    plan.installation.log.validate()?;
    let listener = server::bind(&plan.listen).await?;
    let mut embedded = Embedded::start(&mut plan).await?;
    let stop = shutdown.child_token();
    let registry = Registry::new();
    if let Some(meters) = embedded.meters() {
        registry.register(Box::new(meters))?;
    }
    let deadline = Deadline::default();
    let mut services = pin!(run_services(plan, registry, listener, (&stop, &deadline)));
    let result = tokio::select! {
        result = &mut services => result,
        ended = embedded.ended() => {
            stop.cancel();
            first(Err(ended), services.await)
        }
    };
    let closed = deadline.within(deadline::ALL, embedded.close()).await.unwrap_or_else(|| {
        tracing::warn!("the embedded services were cut off; their next start takes a little longer");
        Ok(())
    });
    tracing::info!("ended");
    first(result, closed)
}

/// What came first is the cause and is returned; what followed from it is only logged.
fn first(cause: Result<(), Error>, consequence: Result<(), Error>) -> Result<(), Error> {
    match (cause, consequence) {
        (Err(cause), Err(consequence)) => {
            tracing::error!(error = &consequence as &dyn std::error::Error, "and so");
            Err(cause)
        }
        (cause, consequence) => cause.and(consequence),
    }
}

/// The log and the database that `plan` names may still be starting.
async fn run_services(
    plan: Plan,
    registry: Registry,
    listener: TcpListener,
    (stop, deadline): (&CancellationToken, &Deadline),
) -> Result<(), Error> {
    let shared = share(plan, registry).await?;
    let mut server = Server::start(listener, Arc::clone(&shared.ops))?;
    let prepared = tokio::select! {
        prepared = startup::prepare(&shared, stop) => prepared?,
        ended = server.ended() => return Err(ended.into()),
    };
    if !prepared {
        return Ok(());
    }
    let mut running = Running::start(&shared)?;
    server.open(running.router());
    shared.ops.set_phase(Phase::CatchingUp);
    announce(&shared, &server)?;
    let demo = start_demo(&shared, &server, stop)?;
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = server.ended() => Err(ended.into()),
        ended = running.ended(&shared.ops) => Err(ended),
    };
    if result.is_err() {
        tracing::error!("a role failed: ending the others");
    }
    shared.ops.set_phase(Phase::Stopping);
    drop(demo);
    first(result, running.close(server, deadline).await)
}

/// Dropping it ends it.
fn start_demo(shared: &Shared, server: &Server, stop: &CancellationToken) -> Result<JoinSet<()>, Error> {
    let mut demo = JoinSet::new();
    if shared.plan.demo {
        let url = format!("http://{}", embedded::reachable(server.address()));
        let url = url.parse().expect("an address makes a URL");
        let edge = Edge::new(&url, ADMIN_KEY, stop).map_err(Error::Demo)?;
        demo.spawn(demo::run(edge, WORKSPACE, stop.clone()));
    }
    Ok(demo)
}

async fn share(plan: Plan, registry: Registry) -> Result<Shared, Error> {
    let pool = plan.installation.store.connect().await.map_err(Error::Database)?;
    let checks = Checks::new(pool.clone(), &plan.installation.log).map_err(Error::Checks)?;
    let ops = Arc::new(Ops::new(registry.clone(), checks)?);
    Ok(Shared { directory: Directory::new(pool.clone()), plan, pool, registry, ops })
}

fn announce(shared: &Shared, server: &Server) -> Result<(), Error> {
    let banner = Banner::new(shared, server.address());
    writeln!(io::stdout(), "{banner}").map_err(Error::Stdout)
}
