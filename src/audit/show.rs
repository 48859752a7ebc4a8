//! The report for a person.

use indicatif::HumanCount;
use millrace_processor::audit::{self, Finding, MinuteRow};
use millrace_schemas::ledger::Counts;
use std::fmt;

pub struct Report<'a> {
    pub report: &'a audit::Report,
    pub minutes_max: usize,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.minutes(f)?;
        self.extent(f)?;
        for (check, Finding { count, examples }) in &self.report.findings.0 {
            let (what, advice) = check.explain();
            writeln!(f, "\nDISAGREES: {} {what}", HumanCount(*count))?;
            for example in examples {
                writeln!(f, "  {example}")?;
            }
            writeln!(f, "  → {advice}")?;
        }
        match self.report.agrees {
            true => write!(f, "\nall agree"),
            false => write!(f, "\n{} disagreements", self.report.findings.0.len()),
        }
    }
}

impl Report<'_> {
    fn minutes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = &self.report.minutes;
        let hidden = rows.len().saturating_sub(self.minutes_max);
        let header = ["read", "from edge", "counted", "running", "duplicate", "dead"];
        write!(f, "{:<21}{:<38}", "minute of arrival", "workspace")?;
        header.iter().try_for_each(|name| write!(f, "{name:>11}"))?;
        writeln!(f)?;
        for MinuteRow { workspace_id, minute, counts } in &rows[hidden..] {
            let workspace = workspace_id.map_or("none".to_owned(), |id| id.to_string());
            line(f, &minute.to_string(), &workspace, counts)?;
        }
        if hidden > 0 {
            writeln!(f, "({hidden} older ones: --minutes, --json)")?;
        }
        line(f, "all", "", &self.report.total)
    }

    fn extent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audit::Report { exact_from, letters, manifests, archived, .. } = self.report;
        let audit::Report { window_sums, window_sums_s, ledger_rows, other_rules, .. } = self.report;
        writeln!(
            f,
            "\ncompared with {} dead letters, {} archived records in {} manifests, {} sums of stored rows (a service in {window_sums_s} s), {} rows of the ledger",
            HumanCount(*letters),
            HumanCount(*archived),
            HumanCount(*manifests),
            HumanCount(*window_sums),
            HumanCount(*ledger_rows)
        )?;
        if let Some(exact_from) = exact_from {
            writeln!(
                f,
                "of arrivals before {exact_from} the log does not have, or was not asked for, all that it takes to judge them: they are not compared"
            )?;
        }
        if *other_rules > 0 {
            writeln!(f, "{} records were judged by other rules than today's", HumanCount(*other_rules))?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, minute: &str, workspace: &str, counts: &Counts) -> fmt::Result {
    write!(f, "{minute:<21}{workspace:<38}")?;
    let Counts { read, from_edge, counted, running, duplicate, dead_lettered, .. } = counts;
    let numbers = [*read, *from_edge, *counted, *running, *duplicate, dead_lettered.total()];
    numbers
        .iter()
        .try_for_each(|number| write!(f, "{:>11}", HumanCount(number.unsigned_abs()).to_string()))?;
    writeln!(f)
}
