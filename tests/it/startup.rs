//! A broker that dies while a role prepares the log: the role says so, waits, and begins when it is back.

use crate::harness::{Installation, PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use clap::{Args as _, FromArgMatches as _};
use millrace_broker::{Broker, Settings};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Of the request that makes topics.
const CREATE_TOPICS: [u8; 2] = 19_i16.to_be_bytes();

/// In front of a broker, which it lets die as somebody wants a topic.
struct Proxy {
    upstream: std::net::SocketAddr,
    away: AtomicBool,
    died: AtomicBool,
}

impl Proxy {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            if self.away.load(Ordering::SeqCst) {
                continue;
            }
            let proxy = Arc::clone(&self);
            connections.spawn(async move {
                if let Err(error) = proxy.serve(client).await {
                    eprintln!("the broker's proxy: {error:#}");
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }

    /// Request after request, until one wants topics.
    async fn serve(&self, client: TcpStream) -> Result<()> {
        let (mut requests, mut answers) = client.into_split();
        let (mut from_broker, mut to_broker) = TcpStream::connect(self.upstream).await?.into_split();
        let forward = async {
            loop {
                let mut head = [0; 6];
                requests.read_exact(&mut head).await?;
                if head[4..] == CREATE_TOPICS && !self.died.swap(true, Ordering::SeqCst) {
                    self.away.store(true, Ordering::SeqCst);
                }
                if self.away.load(Ordering::SeqCst) {
                    return anyhow::Ok(());
                }
                to_broker.write_all(&head).await?;
                let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
                let mut rest = (&mut requests).take(u64::from(size).saturating_sub(2));
                copy(&mut rest, &mut to_broker).await?;
            }
        };
        tokio::select! {
            ended = forward => ended,
            answered = copy(&mut from_broker, &mut answers) => answered.map(drop).context("an answer"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_while_topics_are_made_is_waited_for() -> Result<()> {
    let mut installation = Installation::embedded().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let command = Settings::augment_args(clap::Command::new("test"));
    let words = ["test", "--log-listen", "127.0.0.1:0", "--log-advertise", &address];
    let settings = Settings::from_arg_matches(&command.try_get_matches_from(words)?)?;
    let broker = Broker::start(&installation.file("other-log"), settings).await?;
    let proxy = Arc::new(Proxy {
        upstream: broker.address(),
        away: AtomicBool::new(false),
        died: AtomicBool::new(false),
    });
    let mut accepting = JoinSet::new();
    accepting.spawn(Arc::clone(&proxy).accept(listener));
    installation.log.brokers = address;

    let edge = installation.launch("ingest", &[])?;
    until("the edge says that the log went away", PATIENCE, async || {
        ensure!(proxy.died.load(Ordering::SeqCst), "it wants no topics");
        ensure!(edge.log()?.contains("the log went away while it was prepared"), "{}", edge.log()?);
        Ok(())
    })
    .await?;
    ensure!(edge.api("").get_status("/ready").await? == 503, "it is ready without a log");
    proxy.away.store(false, Ordering::SeqCst);
    edge.ready().await
}
