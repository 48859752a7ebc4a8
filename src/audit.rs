//! `millrace audit`: checks from outside that every record is in exactly one place. The work is
//! [`millrace_processor::audit`]; this shows it.

mod settings;
mod show;

pub use settings::Settings;

use crate::rebuild::ArchiveError;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_processor::audit::{self, Components, Observer, audit as check};
use std::{
    io::{self, Write as _},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const COUNTED: &str = "{msg} {bar:30} {human_pos}/{human_len} {per_sec}, {eta} left";
const UNCOUNTED: &str = "{msg} {spinner} {elapsed}";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the settings of the log")]
    Log(#[from] millrace_log::SettingsError),
    #[error("opening the database")]
    Database(#[source] millrace_tenancy::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the audit could not be made")]
    Audit(#[source] Box<audit::Error>),
    #[error("writing to standard output")]
    Stdout(#[source] io::Error),
}

/// Whether all agrees.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<bool, Error> {
    settings.log.validate()?;
    let archive = settings.archive.location()?;
    let pool = settings.store.connect().await.map_err(Error::Database)?;
    let components = Components { log: settings.log.clone(), pool, archive, shutdown };
    let watch = Box::new(Watch(ProgressBar::hidden()));
    let report = check(settings.plan(), components, watch).await;
    let report = report.map_err(|error| Error::Audit(Box::new(error)))?;
    let said = match settings.json {
        true => serde_json::to_string(&report).expect("a report is plain data"),
        false => show::Report { report: &report, minutes_max: settings.minutes.into() }.to_string(),
    };
    writeln!(io::stdout(), "{said}").map_err(Error::Stdout)?;
    Ok(report.agrees)
}

/// A bar on a terminal.
struct Watch(ProgressBar);

impl Observer for Watch {
    fn begin(&mut self, what: &'static str, total: u64) {
        self.end();
        let (bar, template) = match total {
            0 => (ProgressBar::new_spinner(), UNCOUNTED),
            total => (ProgressBar::new(total), COUNTED),
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        self.0 = bar.with_style(style).with_message(what);
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&mut self, done: u64) {
        self.0.inc(done);
    }

    fn end(&mut self) {
        self.0.finish_and_clear();
    }
}
