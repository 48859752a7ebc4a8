//! Tests of settings: the defaults are the log's, wrong ones are refused with what is allowed.

use super::*;

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_table_and_the_log_have_the_same_defaults() {
    assert_eq!(log_config(&set(&[])).unwrap(), LogConfig::default());
    for setting in SETTINGS {
        setting.check(setting.default).unwrap();
    }
    assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
}

#[test]
fn settings_reach_the_log() {
    let config = log_config(&set(&[
        ("cleanup.policy", "compact, delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "5"),
        ("segment.ms", "1000"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("unclean.leader.election.enable", "TRUE"),
    ]))
    .unwrap();
    assert!(config.compact && config.delete && config.log_append_time);
    assert_eq!((config.retention_ms, config.retention_bytes, config.segment_ms), (None, Some(5), 1000));
    assert!((config.min_cleanable_dirty_ratio - 0.1).abs() < 1e-9);
}

#[test]
fn what_is_not_allowed_is_refused_with_what_is() {
    for (name, value, told) in [
        ("cleanup.policy", "shred", "a list of delete, compact"),
        ("segment.bytes", "12", "from 1024"),
        ("retention.ms", "soon", "a number"),
        ("min.cleanable.dirty.ratio", "NaN", "from 0 to 1"),
        ("compression.type", "gzip", "producer"),
        ("retention.seconds", "5", "retention.ms"),
    ] {
        let refused = log_config(&set(&[(name, value)])).unwrap_err();
        assert_eq!(refused.error, ResponseError::InvalidConfig);
        assert!(refused.message.contains(told), "{}", refused.message);
    }
}

#[test]
fn changes_apply_in_order() {
    let change =
        |kind: fn(String, String) -> ConfigChange, name: &str, value: &str| kind(name.into(), value.into());
    let before = set(&[("retention.ms", "5")]);
    let after = changed(
        &before,
        &[
            change(ConfigChange::Append, "cleanup.policy", "compact"),
            change(ConfigChange::Subtract, "cleanup.policy", "delete"),
            ConfigChange::Delete("retention.ms".to_owned()),
            change(ConfigChange::Set, "segment.ms", "7"),
        ],
    );
    assert_eq!(after.unwrap(), set(&[("cleanup.policy", "compact"), ("segment.ms", "7")]));
    assert!(changed(&before, &[change(ConfigChange::Append, "retention.ms", "1")]).is_err());
    assert!(changed(&before, &[ConfigChange::Delete("nothing".to_owned())]).is_err());
}
