//! What a person is told once all runs: where things listen, and what to try.

use super::{
    Shared,
    embedded::{self, reachable},
    startup::database_name,
};
use crate::ops::VERSION;
use millrace_log::LogSettings;
use millrace_query::ArchiveLocation;
use millrace_tenancy::{ADMIN_KEY, SERVICE, WORKSPACE, WORKSPACE_KEY};
use std::{fmt, net::SocketAddr};

pub struct Banner {
    roles: Vec<&'static str>,
    address: SocketAddr,
    log: LogSettings,
    database: String,
    archive: Option<String>,
    embedded: embedded::Settings,
    dev: bool,
    demo: bool,
}

impl Banner {
    pub fn new(shared: &Shared, address: SocketAddr) -> Self {
        let plan = &shared.plan;
        let kept = plan.processor.as_ref().is_none_or(|processor| !processor.archive.no_archive);
        let of_query = plan.query.as_ref().map(|(_, archive)| archive.url.clone());
        let of_processor =
            || plan.processor.as_ref().map(|processor| absolute(&processor.archive.archive_url));
        Self {
            roles: plan.roles(),
            address: reachable(address),
            log: plan.installation.log.clone(),
            database: match plan.embedded.store {
                true => plan.installation.store.database_url.clone(),
                false => database_name(&shared.pool),
            },
            archive: of_query.or_else(of_processor).filter(|_| kept),
            embedded: plan.embedded.clone(),
            dev: plan.installation.dev,
            demo: plan.demo,
        }
    }

    fn runs(&self, role: &str) -> bool {
        self.roles.contains(&role)
    }

    fn routes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = format!("http://{}", self.address);
        if self.runs("ingest") {
            writeln!(f, "  ingest     POST {url}/api/v1/metrics/ingest")?;
        }
        if self.runs("query") {
            writeln!(f, "  query      GET  {url}/api/v1/workspaces/{{id}}/aggregations")?;
            writeln!(f, "             GET  {url}/api/v1/workspaces/{{id}}/metrics")?;
            writeln!(f, "  live feed       ws://{}/api/v1/workspaces/{{id}}/ws", self.address)?;
        }
        writeln!(f, "  operation  GET  {url}/health  /ready  /metrics")
    }

    fn stores(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics = self.log.topics();
        let embedded = |is_embedded| if is_embedded { "  (embedded)" } else { "" };
        writeln!(f, "  log        {}{}", self.log.brokers, embedded(self.embedded.broker.is_some()))?;
        writeln!(
            f,
            "             topics {} {} {} {}",
            topics.metrics, topics.partials, topics.aggregates, topics.dead_letters
        )?;
        writeln!(f, "  database   {}{}", self.database, embedded(self.embedded.store))?;
        if let Some(archive) = &self.archive {
            writeln!(f, "  archive    {archive}")?;
        }
        if self.embedded.broker.is_some() || self.embedded.store {
            writeln!(f, "  data       {}", self.embedded.data_dir.display())?;
        }
        Ok(())
    }

    fn development(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\ndevelopment (--dev: anyone may use these keys)")?;
        writeln!(f, "  workspace  {WORKSPACE}")?;
        writeln!(f, "  service    {SERVICE}")?;
        writeln!(f, "  its key    {WORKSPACE_KEY}")?;
        writeln!(f, "  admin key  {ADMIN_KEY}")
    }

    fn examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = format!("http://{}", self.address);
        if self.runs("ingest") || self.runs("query") {
            writeln!(f, "\ntry")?;
        }
        if self.runs("ingest") {
            writeln!(
                f,
                "  {RECORD}\n  curl {url}/api/v1/metrics/ingest -H 'Authorization: Bearer {WORKSPACE_KEY}' \\"
            )?;
            writeln!(f, "    -H 'Content-Type: application/json' -d \"{{\\\"metrics\\\":[$(record)]}}\"")?;
            writeln!(f, "  record | kcat -P -b {} -t {}", self.log.brokers, self.log.topics().metrics)?;
        }
        if self.runs("query") {
            writeln!(f, "  curl -H 'Authorization: Bearer {WORKSPACE_KEY}' \\")?;
            writeln!(f, "    '{url}/api/v1/workspaces/{WORKSPACE}/aggregations?window=5s'")?;
        }
        Ok(())
    }
}

/// A relative folder as the absolute one that it is now.
fn absolute(url: &str) -> String {
    ArchiveLocation::parse(url).map_or_else(|_| url.to_owned(), |location| location.url)
}

/// A shell function that prints a record of this moment.
const RECORD: &str = concat!(
    r#"record() { t=$(date -u +%FT%TZ); printf '{"id":"%s","workspace_id":"550e8400-e29b-41d4-a716-446655440000","#,
    r#""service_id":"550e8400-e29b-41d4-a716-446655440001","query_text":"SELECT 1","status":"success","#,
    r#""duration_ms":1.5,"started_at":"%s","completed_at":"%s"}\n' "$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid)" "$t" "$t"; }"#
);

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Millrace {VERSION} is running: {}\n", self.roles.join(", "))?;
        self.routes(f)?;
        self.stores(f)?;
        if self.dev {
            self.development(f)?;
            self.examples(f)?;
        }
        if self.demo {
            writeln!(f, "\nThe demo shop's services send their queries to the workspace above (--demo).")?;
        }
        writeln!(f, "\nCtrl-C or SIGTERM ends it.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(roles: &[&'static str], dev: bool) -> String {
        let log = LogSettings {
            brokers: "k:9092".to_owned(),
            topic_prefix: "millrace.".to_owned(),
            topic_partitions: 4,
            topic_replication: -1,
            properties: vec!["sasl.password=secret".to_owned()],
        };
        let address = reachable("0.0.0.0:3000".parse().expect("an address"));
        let archive = Some("file:///data".to_owned());
        let embedded = embedded::Settings { data_dir: "/data".into(), broker: None, store: true };
        let database = "h:5432/d".to_owned();
        Banner { roles: roles.to_vec(), address, log, database, archive, embedded, dev, demo: false }
            .to_string()
    }

    #[test]
    fn says_where_each_role_is() {
        let text = banner(&["ingest", "query", "processor"], false);
        for part in
            ["http://127.0.0.1:3000/api/v1/metrics/ingest", "millrace.partials", "h:5432/d", "file:///data"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!banner(&["processor"], false).contains("/api/"));
    }

    #[test]
    fn says_what_is_embedded_and_where_its_data_is() {
        let text = banner(&["ingest", "query", "processor"], false);
        assert!(text.contains("h:5432/d  (embedded)\n") && text.contains("k:9092\n"), "{text}");
        assert!(text.contains("data       /data"), "{text}");
    }

    #[test]
    fn keys_are_shown_in_development_only() {
        assert!(!banner(&["ingest", "query"], false).contains("key"));
        let text = banner(&["ingest", "query"], true);
        assert!(text.contains(ADMIN_KEY) && text.contains("kcat -P -b k:9092 -t millrace.metrics"));
        assert!(!text.contains("secret"));
    }

    #[test]
    fn the_record_to_try_names_the_development_workspace() {
        assert!(RECORD.contains(&WORKSPACE.to_string()) && RECORD.contains(&SERVICE.to_string()));
    }
}
