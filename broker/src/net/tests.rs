//! The limits, with a service that only echoes.

use super::*;
use crate::Settings;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    settings: Settings,
}

/// Echoes frames; one that begins with `w` waits for ever, with `d` it waits a little and lets others begin.
struct Echo {
    dropped: Arc<tokio::sync::Notify>,
}

struct Told(Arc<tokio::sync::Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Service for Echo {
    fn begin(&self, _: &Peer, frame: Bytes) -> Result<Pending, Close> {
        let told = Told(Arc::clone(&self.dropped));
        let first = frame.first().copied();
        let synced = Instant::now() + Duration::from_millis(100);
        let answering: Answering = Box::pin(async move {
            match first {
                Some(b'w') => std::future::pending().await,
                Some(b'd') => tokio::time::sleep_until(synced).await,
                _ => {}
            }
            drop(told);
            let length = Bytes::copy_from_slice(&(frame.len() as i32).to_be_bytes());
            Ok(Some(Answer { pieces: vec![length, frame], held: None }))
        });
        Ok(Pending { answering, overlaps: first == Some(b'd') })
    }
}

struct Server {
    address: SocketAddr,
    limits: Arc<Limits>,
    dropped: Arc<tokio::sync::Notify>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

async fn server(arguments: &[&str], adjust: impl FnOnce(&mut Limits)) -> Server {
    let settings = Options::parse_from(["test"].iter().chain(arguments)).settings;
    let mut limits = Limits::new(&settings);
    adjust(&mut limits);
    let limits = Arc::new(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (dropped, stop) = (Arc::default(), CancellationToken::new());
    let service = Arc::new(Echo { dropped: Arc::clone(&dropped) });
    let serving = serve(listener, service, Arc::clone(&limits), stop.clone());
    let served = tokio::runtime::Handle::current().spawn(serving);
    Server { address, limits, dropped, stop, served }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

async fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = within(stream.read_i32()).await.ok()?;
    let mut body = vec![0; length as usize];
    within(stream.read_exact(&mut body)).await.expect("all of it");
    Some(body)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
}

#[tokio::test]
async fn frames_in_pieces_and_many_at_once_are_answered_in_order() {
    let server = server(&[], |_| ()).await;
    let mut stream = server.connect().await;
    let frames: Vec<Vec<u8>> =
        (0..50_usize).map(|size| vec![b'd' + (size % 2) as u8; 1 + size * size * 40]).collect();
    let bytes: Vec<u8> = frames.iter().flat_map(|body| frame(body)).collect();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for piece in bytes.chunks(7919) {
            writer.write_all(piece).await.expect("it takes bytes");
            writer.flush().await.expect("it takes bytes");
        }
    };
    let read = async {
        for sent in &frames {
            let length = within(reader.read_i32()).await.expect("a length");
            let mut body = vec![0; length as usize];
            within(reader.read_exact(&mut body)).await.expect("a body");
            assert!(body == *sent);
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn what_waits_for_the_disk_lets_others_begin() {
    let server = server(&[], |_| ()).await;
    let mut stream = server.connect().await;
    let began = Instant::now();
    for _ in 0..20 {
        stream.write_all(&frame(b"disk")).await.expect("it takes bytes");
    }
    for _ in 0..20 {
        assert_eq!(read_frame(&mut stream).await.as_deref(), Some(&b"disk"[..]));
    }
    assert!(began.elapsed() < Duration::from_millis(1500), "one after the other takes 2 s");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_counted() {
    let server = server(&["--log-connections", "10"], |_| ()).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = server.connect().await;
        stream.write_all(&frame(b"a")).await.expect("it takes bytes");
        assert!(read_frame(&mut stream).await.is_some());
        open.push(stream);
    }
    let mut refused = server.connect().await;
    assert!(read_frame(&mut refused).await.is_none());
    assert_eq!(server.limits.traffic.connections_refused.load(Ordering::Relaxed), 1);
    assert_eq!(server.limits.connections_open(), 10);
    drop(open);
    within(async {
        loop {
            let mut stream = server.connect().await;
            if stream.write_all(&frame(b"a")).await.is_ok() && read_frame(&mut stream).await.is_some() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_frame_past_the_limit_closes_its_connection() {
    let server = server(&["--log-request-bytes", "1048576"], |_| ()).await;
    let mut stream = server.connect().await;
    stream.write_all(&frame(&vec![b'a'; 1 << 20])).await.expect("it takes bytes");
    assert_eq!(read_frame(&mut stream).await.map(|body| body.len()), Some(1 << 20));
    stream.write_all(&((1 << 20) + 1_i32).to_be_bytes()).await.expect("it takes bytes");
    assert!(read_frame(&mut stream).await.is_none());
}

#[tokio::test]
async fn half_a_frame_and_no_frame_are_closed_in_time() {
    let quick = |limits: &mut Limits| {
        limits.idle = Duration::from_millis(300);
        limits.frame_grace = Duration::from_millis(100);
    };
    let server = server(&[], quick).await;
    let (mut idle, mut half) = (server.connect().await, server.connect().await);
    half.write_all(&[0, 0, 0, 9, 1]).await.expect("it takes bytes");
    assert!(read_frame(&mut half).await.is_none());
    assert!(read_frame(&mut idle).await.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_waiting_request_along() {
    let server = server(&[], |_| ()).await;
    let mut stream = server.connect().await;
    stream.write_all(&frame(b"wait")).await.expect("it takes bytes");
    drop(stream);
    within(server.dropped.notified()).await;
}

#[tokio::test]
async fn large_frames_wait_for_the_budget_and_all_are_answered() {
    let server = server(&["--log-inflight-bytes", "1048576"], |_| ()).await;
    let clients = (0..8).map(|_| async {
        let mut stream = server.connect().await;
        let body = vec![b'a'; 900_000];
        stream.write_all(&frame(&body)).await.expect("it takes bytes");
        assert!(read_frame(&mut stream).await.as_deref() == Some(&body));
    });
    let mut waiting: Vec<_> = clients.map(Box::pin).collect();
    within(std::future::poll_fn(|context| {
        waiting.retain_mut(|client| client.as_mut().poll(context).is_pending());
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }))
    .await;
}

#[tokio::test]
async fn a_claim_without_bytes_takes_nothing_from_others() {
    let server = server(&["--log-inflight-bytes", "1048576"], |_| ()).await;
    let mut claimers = Vec::new();
    for _ in 0..5 {
        let mut claimer = server.connect().await;
        claimer.write_all(&(100_000_000_i32).to_be_bytes()).await.expect("it takes bytes");
        claimers.push(claimer);
    }
    let mut stream = server.connect().await;
    stream.write_all(&frame(&vec![b'a'; 1 << 20])).await.expect("it takes bytes");
    assert!(read_frame(&mut stream).await.is_some());
}

#[tokio::test]
async fn a_large_claim_takes_no_more_than_has_come() {
    let server = server(&[], |_| ()).await;
    let mut claimers = Vec::new();
    for _ in 0..3 {
        let mut claimer = server.connect().await;
        claimer.write_all(&(95_i32 << 20).to_be_bytes()).await.expect("it takes bytes");
        claimer.write_all(&vec![b'a'; 70_000]).await.expect("it takes bytes");
        claimers.push(claimer);
    }
    let all_read = || server.limits.traffic.bytes_in.load(Ordering::Relaxed) == 3 * 70_004;
    within(async {
        while !all_read() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for length in [10, 32 << 20] {
        let mut stream = server.connect().await;
        let body = vec![b'a'; length];
        stream.write_all(&frame(&body)).await.expect("it takes bytes");
        assert!(read_frame(&mut stream).await.as_deref() == Some(&body));
    }
}

#[tokio::test]
async fn a_large_claim_buys_no_time_for_silence() {
    let quick = |limits: &mut Limits| limits.frame_grace = Duration::from_millis(100);
    let server = server(&[], quick).await;
    let mut claimer = server.connect().await;
    claimer.write_all(&(95_i32 << 20).to_be_bytes()).await.expect("it takes bytes");
    claimer.write_all(&vec![b'a'; 70_000]).await.expect("it takes bytes");
    assert!(read_frame(&mut claimer).await.is_none());
}

#[tokio::test]
async fn frames_that_all_have_begun_and_need_more_than_there_is_come_to_their_end() {
    let server = server(&["--log-inflight-bytes", "1048576"], |_| ()).await;
    let mut begun = Vec::new();
    let body = vec![b'a'; 1 << 20];
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream.write_all(&frame(&body)[..300_000]).await.expect("it takes bytes");
        begun.push(stream);
    }
    let mut rest = tokio::task::JoinSet::new();
    for mut stream in begun {
        let body = body.clone();
        rest.spawn(async move {
            stream.write_all(&frame(&body)[300_000..]).await.expect("it takes bytes");
            assert!(read_frame(&mut stream).await.as_deref() == Some(&body));
        });
    }
    within(rest.join_all()).await;
}

#[tokio::test]
async fn an_end_answers_what_waits_for_the_disk_and_drops_what_may_wait_for_ever() {
    let server = server(&[], |_| ()).await;
    let (mut disk, mut ever) = (server.connect().await, server.connect().await);
    ever.write_all(&frame(b"wait")).await.expect("it takes bytes");
    disk.write_all(&frame(b"a")).await.expect("it takes bytes");
    assert!(read_frame(&mut disk).await.is_some());
    disk.write_all(&frame(b"disk")).await.expect("it takes bytes");
    tokio::time::sleep(Duration::from_millis(50)).await; // until it has begun
    server.stop.cancel();
    assert_eq!(read_frame(&mut disk).await.as_deref(), Some(&b"disk"[..]));
    assert!(read_frame(&mut ever).await.is_none());
    within(server.served).await.expect("it ends");
}
