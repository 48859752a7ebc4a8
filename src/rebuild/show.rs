//! The report for a person.

use indicatif::HumanCount;
use millrace_processor::rebuild::{self, Cell, Comparison, Difference, Kind, Largest};
use std::fmt;

pub struct Report<'a> {
    pub report: &'a rebuild::Report,
    pub examples: &'a [Difference],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rebuild::Report { range, workspace_id, records_archive, records_log, windows, largest } =
            self.report;
        let of = workspace_id.map_or("all workspaces".to_owned(), |id| format!("workspace {id}"));
        writeln!(
            f,
            "{} to {}, {of}: {} records of the archive, {} of the log after it\n",
            range.from(),
            range.to(),
            HumanCount(*records_archive),
            HumanCount(*records_log)
        )?;
        writeln!(
            f,
            "{:<8}{:>12}{:>12}{:>14}{:>14}{:>12}",
            "window", "stored", "rebuilt", "only stored", "only rebuilt", "different"
        )?;
        for Comparison { window, stored, rebuilt, only_stored, only_rebuilt, different } in windows {
            writeln!(
                f,
                "{window:<8}{:>12}{:>12}{:>14}{:>14}{:>12}",
                HumanCount(*stored).to_string(),
                HumanCount(*rebuilt).to_string(),
                HumanCount(*only_stored).to_string(),
                HumanCount(*only_rebuilt).to_string(),
                HumanCount(*different).to_string()
            )?;
        }
        if let Some(Largest { relative, column, stored, rebuilt, row }) = largest {
            let percent = relative * 100.0;
            writeln!(
                f,
                "\nlargest difference of a number: {percent:.3} %, {column} {} → {} in {} {}",
                Shown(*stored),
                Shown(*rebuilt),
                row.window,
                row.window_start
            )?;
        }
        self.examples(f)
    }
}

impl Report<'_> {
    fn examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.report.differences();
        if all == 0 {
            return write!(f, "\nwhat is stored is what is rebuilt");
        }
        writeln!(f)?;
        for difference in self.examples {
            let Difference { kind, window, window_start, workspace_id, service_id, columns, .. } = difference;
            write!(
                f,
                "{:<13} {window:<3} {window_start} workspace {workspace_id} service {service_id}:",
                name(*kind)
            )?;
            for column in columns {
                write!(f, " {} {} → {};", column.name, Shown(column.stored), Shown(column.rebuilt))?;
            }
            writeln!(f)?;
        }
        let more = all - self.examples.len() as u64;
        match more {
            0 => Ok(()),
            more => writeln!(f, "and {} more: --examples shows more, --json all", HumanCount(more)),
        }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::OnlyStored => "only stored",
        Kind::OnlyRebuilt => "only rebuilt",
        Kind::Different => "different",
    }
}

struct Shown(Cell);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cell::Count(count) => write!(f, "{count}"),
            Cell::Number(number) => write!(f, "{number}"),
            Cell::Flag(flag) => write!(f, "{flag}"),
            Cell::Null => f.write_str("-"),
        }
    }
}
