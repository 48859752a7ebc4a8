//! A bucket of `moto`, an S3 server of other people's make, behind a proxy of ours that makes every third request fail: with
//! 500, with 503, without an answer, or with no answer though it was carried out.

use crate::harness::{free_port, run, until};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};

const BUCKET: &str = "chaos";
const START_WITHIN: Duration = Duration::from_secs(60);
/// Larger requests the archive does not make.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

pub struct Bucket {
    server: Child,
    server_port: u16,
    proxy: Arc<Proxy>,
    proxy_port: u16,
    _accepting: JoinSet<()>,
}

struct Proxy {
    upstream: u16,
    requests: AtomicUsize,
    failed: AtomicUsize,
    away: AtomicBool,
    healthy: AtomicBool,
    /// One request at a time, so that "create if it does not exist" is one step, as it is in S3.
    turn: Mutex<()>,
}

/// How a request fails.
#[derive(Clone, Copy)]
enum Failure {
    Status(&'static str),
    NoAnswer,
    /// It is carried out, but nobody hears of it.
    Unheard,
}

const FAILURES: [Failure; 4] = [
    Failure::Status("500 Internal Server Error"),
    Failure::Unheard,
    Failure::Status("503 Slow Down"),
    Failure::NoAnswer,
];

impl Bucket {
    pub async fn start(folder: &Path, python: &Path) -> Result<Self> {
        let server_port = free_port()?;
        let log = File::options().create(true).append(true).open(folder.join("s3.log"))?;
        let server = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &server_port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start moto's S3")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy_port = listener.local_addr()?.port();
        let proxy = Arc::new(Proxy {
            upstream: server_port,
            requests: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            healthy: AtomicBool::new(false),
            turn: Mutex::new(()),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&proxy)));
        let bucket = Self { server, server_port, proxy, proxy_port, _accepting: accepting };
        bucket.create().await?;
        Ok(bucket)
    }

    async fn create(&self) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/{BUCKET}", self.server_port);
        until("the bucket is there", START_WITHIN, async || {
            let response = reqwest::Client::new().put(&url).send().await?;
            ensure!(response.status().is_success(), "{}", response.status());
            Ok(())
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/archive")
    }

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.proxy_port);
        let settings = [
            ("AWS_ACCESS_KEY_ID", "chaos"),
            ("AWS_SECRET_ACCESS_KEY", "chaos"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        settings.map(|(name, value)| (name, value.to_owned())).into()
    }

    /// While it is away every request fails.
    pub fn set_away(&self, away: bool) {
        self.proxy.away.store(away, Ordering::Relaxed);
    }

    /// No request fails any more.
    pub fn heal(&self) {
        self.proxy.healthy.store(true, Ordering::Relaxed);
    }

    pub fn failed(&self) -> usize {
        self.proxy.failed.load(Ordering::Relaxed)
    }

    pub async fn download(&self, to: &Path, python: &Path) -> Result<PathBuf> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/chaos/download.py");
        let endpoint = format!("http://127.0.0.1:{}", self.server_port);
        let words = [script.display().to_string(), endpoint, BUCKET.to_owned(), to.display().to_string()];
        run(python, &words).await?;
        Ok(to.join("archive"))
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait().map(|_| ())) {
            eprintln!("moto may still run: {error}");
        }
    }
}

async fn accept(listener: TcpListener, proxy: Arc<Proxy>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let proxy = Arc::clone(&proxy);
        connections.spawn(async move {
            // The client went away, or was killed: there is nobody to tell.
            if let Err(error) = proxy.serve(client).await {
                eprintln!("the bucket's proxy: {error:#}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Proxy {
    /// One request, then the connection is closed.
    async fn serve(&self, mut client: TcpStream) -> Result<()> {
        let request = read_request(&mut client).await?;
        if request.is_empty() {
            return Ok(());
        }
        match self.failure() {
            None => {
                let answer = self.forward(&request).await?;
                client.write_all(&answer).await?;
            }
            Some(Failure::Status(status)) => {
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                client.write_all(answer.as_bytes()).await?;
            }
            Some(Failure::Unheard) => {
                self.forward(&request).await?;
            }
            Some(Failure::NoAnswer) => {}
        }
        client.shutdown().await.context("close a connection")
    }

    fn failure(&self) -> Option<Failure> {
        if self.healthy.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if !number.is_multiple_of(3) && !self.away.load(Ordering::Relaxed) {
            return None;
        }
        let failed = self.failed.fetch_add(1, Ordering::Relaxed);
        Some(FAILURES[failed % FAILURES.len()])
    }

    async fn forward(&self, request: &[u8]) -> Result<Vec<u8>> {
        let _turn = self.turn.lock().await;
        let mut server = TcpStream::connect(("127.0.0.1", self.upstream)).await?;
        server.write_all(request).await?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

/// Head and body as they came, but that the server is told to close the connection after it.
async fn read_request(client: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            ensure!(bytes.is_empty(), "half a request");
            return Ok(bytes);
        }
    };
    let head = std::str::from_utf8(&bytes[..head_end]).context("a request's head")?;
    let body_length = content_length(head)?;
    let head: Vec<&str> = head.split("\r\n").filter(|line| !is(line, "connection")).collect();
    let mut request = format!("{}\r\nConnection: close\r\n\r\n", head.join("\r\n")).into_bytes();
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < body_length {
        if client.read_buf(&mut body).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context("half a request");
        }
    }
    request.extend(body);
    Ok(request)
}

fn content_length(head: &str) -> Result<usize> {
    if head.split("\r\n").any(|line| is(line, "transfer-encoding")) {
        bail!("the proxy does not read chunked requests");
    }
    let line = head.split("\r\n").find(|line| is(line, "content-length"));
    let length =
        line.and_then(|line| line.split_once(':')).map_or(Ok(0), |(_, value)| value.trim().parse())?;
    ensure!(length <= REQUEST_BYTES_MAX, "a request of {length} bytes");
    Ok(length)
}

fn is(line: &str, header: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case(header))
}
