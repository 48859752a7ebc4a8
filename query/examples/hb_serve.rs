//! temporary
use clap::Parser;
use millrace_query::*;
use tokio_util::sync::CancellationToken;
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    log: millrace_log::LogSettings,
    #[command(flatten)]
    store: millrace_tenancy::StoreSettings,
    #[command(flatten)]
    archive: ArchiveLocation,
    #[arg(long, default_value = "127.0.0.1:3901")]
    listen: String,
}
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("info").init();
    let cli = Cli::parse();
    let pool = cli.store.connect().await.unwrap();
    if std::env::args().any(|_| true) {
        if let Err(e) = millrace_tenancy::migrate(&pool).await {
            eprintln!("migrate: {e:?}");
        }
        if let Err(e) = millrace_tenancy::seed_development(&pool).await {
            eprintln!("seed: {e:?}");
        }
        if let Err(e) = millrace_log::ensure_topics(&cli.log).await {
            eprintln!("topics: {e:?}");
        }
    }
    let registry = prometheus::Registry::new();
    let shutdown = CancellationToken::new();
    let service = QueryService::start(
        &cli.settings,
        Components {
            log: cli.log,
            directory: millrace_tenancy::Directory::new(pool.clone()),
            pool,
            archive: cli.archive,
            registry: registry.clone(),
        },
        &shutdown,
    )
    .unwrap();
    let r = registry.clone();
    let router = service.router().route(
        "/metrics",
        axum::routing::get(move || {
            let r = r.clone();
            async move { prometheus::TextEncoder::new().encode_to_string(&r.gather()).unwrap() }
        }),
    );
    let listener = tokio::net::TcpListener::bind(&cli.listen).await.unwrap();
    let stop = shutdown.clone();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            term.recv().await;
            eprintln!("term");
            stop.cancel();
        })
        .await
        .unwrap();
    let t = std::time::Instant::now();
    service.close().await;
    eprintln!("closed in {:?}", t.elapsed());
}
