//! A store in a folder of its own, a client that speaks the protocol byte by byte, and waiting with a deadline.

use millrace_store::{Settings, Store};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

/// Nothing here takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Running {
    pub store: Store,
    pub folder: TempDir,
}

pub async fn start() -> Running {
    start_with(|_| {}).await
}

pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Running {
    let log = tracing_subscriber::fmt().with_env_filter("millrace_store=debug,sqlx=info").with_test_writer();
    drop(log.try_init()); // another test did it
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(folder.path().join("store"));
    change(&mut settings);
    let store = Store::start(settings).await.unwrap();
    Running { store, folder }
}

pub async fn pool_at(url: &str, connections: u32) -> PgPool {
    let options = PgPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
    options.connect(url).await.unwrap()
}

impl Running {
    pub async fn pool(&self, connections: u32) -> PgPool {
        pool_at(&self.store.url(), connections).await
    }

    pub async fn raw(&self) -> Raw {
        Raw::greeted(self.store.socket_dir(), &[]).await
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

/// Waits until the condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(5)).await; // between two looks
    }
}

/// A client that says exactly what a test wants.
pub struct Raw {
    pub stream: UnixStream,
}

impl Raw {
    pub async fn connect(folder: &Path) -> Self {
        Self { stream: UnixStream::connect(folder.join(".s.PGSQL.5432")).await.unwrap() }
    }

    pub async fn greeted(folder: &Path, parameters: &[(&str, &str)]) -> Self {
        let mut raw = Self::connect(folder).await;
        raw.send(&first_message(3 << 16, parameters)).await;
        assert_eq!(raw.until(b'Z').await.first().unwrap().0, b'R');
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let tag = self.stream.read_u8().await.ok()?;
            let length = self.stream.read_u32().await.ok()?;
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((tag, body))
        };
        timeout(PATIENCE, read).await.expect("an answer in time")
    }

    /// All messages up to one of this kind, or to the end.
    pub async fn until(&mut self, tag: u8) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            let last = message.0 == tag;
            messages.push(message);
            if last {
                break;
            }
        }
        messages
    }

    pub async fn tags(&mut self) -> String {
        self.until(b'Z').await.iter().map(|(tag, _)| char::from(*tag)).collect()
    }

    pub async fn query(&mut self, sql: &str) -> Vec<(u8, Vec<u8>)> {
        self.send(&query(sql)).await;
        self.until(b'Z').await
    }

    /// The SQLSTATE with which the connection ends.
    pub async fn end(&mut self) -> String {
        let messages = self.until(0).await;
        let error = messages.iter().rfind(|(tag, _)| *tag == b'E').expect("an error before the end");
        sqlstate(&error.1)
    }
}

pub fn sqlstate(error: &[u8]) -> String {
    let code = error.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C')).unwrap();
    String::from_utf8(code[1..].to_vec()).unwrap()
}

pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Binds without parameters, executes and describes nothing.
pub fn execute(name: &str) -> Vec<u8> {
    [frame(b'B', &[b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat()), frame(b'E', b"\0\0\0\0\0")].concat()
}

pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub fn first_message(code: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    for (name, value) in [("user", "postgres")].iter().chain(parameters) {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}
