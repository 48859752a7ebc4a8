//! temp
use clap::Parser;
use millrace_ingest::*;
use millrace_log::*;
use millrace_tenancy::*;
#[derive(Parser)]
struct A {
    #[command(flatten)]
    s: StoreSettings,
    #[command(flatten)]
    l: LogSettings,
    #[command(flatten)]
    i: Settings,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    no_topics: bool,
}
struct P;
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let a = A::parse();
    let pool = a.s.connect().await.unwrap();
    migrate(&pool).await.unwrap();
    seed_development(&pool).await.unwrap();
    if !a.no_topics {
        ensure_topics(&a.l).await.unwrap();
    }
    let r = prometheus::Registry::new();
    let e = Edge::start(a.i, &a.l, Directory::new(pool), &r).unwrap();
    let app = e.router().route(
        "/metrics",
        axum::routing::get(move || {
            let r = r.clone();
            async move { prometheus::TextEncoder::new().encode_to_string(&r.gather()).unwrap() }
        }),
    );
    let li = tokio::net::TcpListener::bind(("127.0.0.1", a.port)).await.unwrap();
    let p = P;
    let _ = &p;
    axum::serve(li, app)
        .with_graceful_shutdown(async {
            tokio::io::AsyncReadExt::read(&mut tokio::io::stdin(), &mut [0u8; 1]).await.unwrap();
        })
        .await
        .unwrap();
    let t = std::time::Instant::now();
    e.close().await;
    eprintln!("closed in {:?} waiting reachable {}", t.elapsed(), e.is_log_reachable());
}
