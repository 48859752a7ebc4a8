//! The JSON Schemas of every record type, made from the types. The files in `schemas/json/` are these, checked for drift.

use crate::{AggregateRow, QueryMetric, dead_letter::DeadLetterHeaders, ledger, partial, progress::Progress};
use schemars::{JsonSchema, generate::SchemaSettings};

/// (file name, schema as pretty JSON with a final newline) of each record type.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("query-metric.schema.json", schema::<QueryMetric>()),
        ("aggregate-row.schema.json", schema::<AggregateRow>()),
        ("partial-header.schema.json", schema::<partial::Header>()),
        ("progress.schema.json", schema::<Progress>()),
        ("ledger-entry.schema.json", schema::<ledger::Entry>()),
        ("dead-letter-headers.schema.json", schema::<DeadLetterHeaders>()),
    ]
}

fn schema<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    format!("{:#}\n", schema.as_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    /// `MILLRACE_WRITE_SCHEMAS=1 cargo test -p millrace-schemas` writes them anew.
    #[test]
    fn the_files_are_what_the_types_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
        for (name, schema) in all() {
            let path = folder.join(name);
            if option_env!("MILLRACE_WRITE_SCHEMAS").is_some() {
                fs::create_dir_all(&folder)
                    .and_then(|()| fs::write(&path, &schema))
                    .expect("writes the schema");
            }
            let file = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(file, schema, "{name} has drifted: run `just schemas`");
        }
    }
}
