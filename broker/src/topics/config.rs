//! The settings of a topic: names, defaults and allowed values as in Kafka, and what the log makes of them.

use super::{ConfigChange, ConfigEntry};
use crate::log::{LogConfig, Refused};
use kafka_protocol::ResponseError;
use std::collections::BTreeMap;

mod table;

use table::{Allowed, SETTINGS, Setting};

/// Checks all, and gives what the log needs.
pub fn log_config(set: &BTreeMap<String, String>) -> Result<LogConfig, Refused> {
    for (name, value) in set {
        setting(name)?.check(value)?;
    }
    let values = Values(set);
    let policy = values.text("cleanup.policy");
    let has = |word: &str| policy.split(',').any(|found| found.trim() == word);
    Ok(LogConfig {
        delete: has("delete"),
        compact: has("compact"),
        retention_ms: Some(values.number("retention.ms")).filter(|ms| *ms >= 0),
        retention_bytes: u64::try_from(values.number("retention.bytes")).ok(),
        segment_bytes: values.small("segment.bytes"),
        segment_ms: values.number("segment.ms"),
        max_message_bytes: values.small("max.message.bytes"),
        log_append_time: values.text("message.timestamp.type") == "LogAppendTime",
        timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
        timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
        min_compaction_lag_ms: values.number("min.compaction.lag.ms"),
        max_compaction_lag_ms: values.number("max.compaction.lag.ms"),
        delete_retention_ms: values.number("delete.retention.ms"),
        min_cleanable_dirty_ratio: values.text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
    })
}

/// The settings after `changes`, not yet checked but for their names.
pub fn changed(
    set: &BTreeMap<String, String>,
    changes: &[ConfigChange],
) -> Result<BTreeMap<String, String>, Refused> {
    let mut set = set.clone();
    for change in changes {
        match change {
            ConfigChange::Set(name, value) => {
                set.insert(name.clone(), value.clone());
            }
            ConfigChange::Delete(name) => {
                setting(name)?;
                set.remove(name);
            }
            ConfigChange::Append(name, value) => {
                let mut list = list_of(&set, name)?;
                let new =
                    value.split(',').map(|word| word.trim().to_owned()).filter(|word| !list.contains(word));
                let new: Vec<String> = new.collect();
                list.extend(new);
                set.insert(name.clone(), list.join(","));
            }
            ConfigChange::Subtract(name, value) => {
                let mut list = list_of(&set, name)?;
                list.retain(|word| !value.split(',').any(|gone| gone.trim() == word));
                set.insert(name.clone(), list.join(","));
            }
        }
    }
    Ok(set)
}

pub fn describe(set: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let entry = |setting: &Setting| ConfigEntry {
        name: setting.name,
        value: set.get(setting.name).map_or_else(|| setting.default.to_owned(), Clone::clone),
        is_default: !set.contains_key(setting.name),
        kind: setting.allowed.kind(),
        documentation: setting.documentation,
    };
    SETTINGS.iter().map(entry).collect()
}

fn list_of(set: &BTreeMap<String, String>, name: &str) -> Result<Vec<String>, Refused> {
    let setting = setting(name)?;
    if !matches!(setting.allowed, Allowed::Words(_) | Allowed::List) {
        return invalid(format!("{name} is no list: it can't be appended to or subtracted from"));
    }
    let value = set.get(name).map_or(setting.default, String::as_str);
    Ok(value.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect())
}

fn setting(name: &str) -> Result<&'static Setting, Refused> {
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    found.map_or_else(
        || {
            let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
            invalid(format!("Unknown topic config name: {name}; there are {}", names.join(", ")))
        },
        Ok,
    )
}

fn invalid<T>(message: String) -> Result<T, Refused> {
    Err(Refused::new(ResponseError::InvalidConfig, message))
}

impl Setting {
    fn check(&self, value: &str) -> Result<(), Refused> {
        let value = value.trim();
        let fits = match self.allowed {
            Allowed::Int(min, max) | Allowed::Long(min, max) => {
                value.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number))
            }
            Allowed::Ratio => value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
            Allowed::Boolean => ["true", "false"].contains(&value.to_ascii_lowercase().as_str()),
            Allowed::One(words) => words.contains(&value),
            Allowed::Words(words) => value.split(',').all(|word| words.contains(&word.trim())),
            Allowed::List => true,
        };
        if fits {
            Ok(())
        } else {
            invalid(format!("Invalid value {value} for {}: {}", self.name, self.allowed))
        }
    }
}

/// What is set, else the default; checked before.
struct Values<'a>(&'a BTreeMap<String, String>);

impl Values<'_> {
    fn text(&self, name: &str) -> &str {
        let default =
            || SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default);
        self.0.get(name).map_or_else(default, |value| value.trim())
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(-1)
    }

    fn small(&self, name: &str) -> u32 {
        u32::try_from(self.number(name)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
