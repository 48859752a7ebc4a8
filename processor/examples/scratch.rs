use clap::Parser;
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    log: millrace_log::LogSettings,
    #[command(flatten)]
    store: millrace_tenancy::StoreSettings,
    #[command(flatten)]
    settings: millrace_processor::Settings,
}
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let pool = cli.store.connect().await.unwrap();
    millrace_tenancy::migrate(&pool).await.unwrap();
    millrace_tenancy::seed_development(&pool).await.unwrap();
    millrace_log::ensure_topics(&cli.log).await.unwrap();
    let directory = millrace_tenancy::Directory::new(pool.clone());
    let components = millrace_processor::Components {
        log: cli.log,
        pool,
        directory,
        registry: prometheus::Registry::new(),
    };
    let shutdown = tokio_util::sync::CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::signal::ctrl_c().await.unwrap();
        token.cancel();
    });
    println!("{:?}", millrace_processor::run(cli.settings, components, shutdown).await);
}
