//! The log and the store in this process, for those that are not given by an address. The services don't know: once these
//! run, the settings hold addresses like any other.

mod meters;

use super::{Error, plan::Plan};
use meters::LogMeters;
use millrace_broker::Broker;
use millrace_store::Store;
use std::{
    fs::DirBuilder,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

/// In place of an address: the log or the store is to run in this process.
pub const EMBEDDED: &str = "embedded";

/// What is to run in this process, and where its data is.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub broker: Option<millrace_broker::Settings>,
    pub store: bool,
}

impl Settings {
    /// For roles that must be given addresses.
    pub fn none() -> Self {
        Self { data_dir: PathBuf::new(), broker: None, store: false }
    }

    /// Nobody else may read it: queries are personal data.
    fn make_data_dir(&self) -> Result<(), Error> {
        if self.broker.is_none() && !self.store {
            return Ok(());
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir);
        made.map_err(|source| Error::DataDir { folder: self.data_dir.clone(), source })
    }

    pub fn log_dir(&self) -> PathBuf {
        self.data_dir.join("log")
    }
}

/// What runs in this process; the services that use it must have ended before it is closed.
#[derive(Default)]
pub struct Embedded {
    broker: Option<Broker>,
    store: Option<Store>,
}

impl Embedded {
    /// Starts what `plan` wants embedded, and writes its addresses into the plan.
    pub async fn start(plan: &mut Plan) -> Result<Self, Error> {
        let settings = &plan.embedded;
        settings.make_data_dir()?;
        let (broker, store) = tokio::join!(start_broker(settings), start_store(settings));
        let embedded = match (broker, store) {
            (Ok(broker), Ok(store)) => Self { broker, store },
            (Ok(broker), Err(error)) => return Err(Self { broker, store: None }.close_after(error).await),
            (Err(error), Ok(store)) => return Err(Self { broker: None, store }.close_after(error).await),
            (Err(error), Err(_)) => return Err(error),
        };
        if let Some(broker) = &embedded.broker {
            plan.installation.log.brokers = reachable(broker.address()).to_string();
        }
        if let Some(store) = &embedded.store {
            plan.installation.store.database_url = store.url();
        }
        Ok(embedded)
    }

    async fn close_after(self, cause: Error) -> Error {
        if let Err(error) = self.close().await {
            tracing::error!(error = &error as &dyn std::error::Error, "and so");
        }
        cause
    }

    /// The numbers of what runs, for `/metrics`.
    pub fn meters(&self) -> Option<LogMeters> {
        self.broker.as_ref().map(|broker| LogMeters::new(broker.meters()))
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> Error {
        let broker = async {
            match &mut self.broker {
                Some(broker) => Error::EmbeddedLog(broker.ended().await),
                None => std::future::pending().await,
            }
        };
        let store = async {
            match &mut self.store {
                Some(store) => Error::EmbeddedStore(store.ended().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = broker => ended,
            ended = store => ended,
        }
    }

    /// Syncs and closes: the next start is quick and finds everything.
    pub async fn close(self) -> Result<(), Error> {
        let store = match self.store {
            Some(store) => store.close().await.map_err(Error::EmbeddedStore),
            None => Ok(()),
        };
        let broker = match self.broker {
            Some(broker) => broker.close().await.map_err(Error::EmbeddedLog),
            None => Ok(()),
        };
        store.and(broker)
    }
}

async fn start_broker(settings: &Settings) -> Result<Option<Broker>, Error> {
    let Some(broker) = settings.broker.clone() else { return Ok(None) };
    Broker::start(&settings.log_dir(), broker).await.map(Some).map_err(Error::EmbeddedLog)
}

async fn start_store(settings: &Settings) -> Result<Option<Store>, Error> {
    if !settings.store {
        return Ok(None);
    }
    let store = millrace_store::Settings::new(settings.data_dir.join("store"));
    Store::start(store).await.map(Some).map_err(Error::EmbeddedStore)
}

/// An address that listens on all interfaces is reached on this machine's own.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let own = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(own, address.port())
}
