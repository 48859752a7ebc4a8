//! The table of settings. Those that mean nothing on one node are accepted, so that existing scripts work.

use std::fmt;

pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub allowed: Allowed,
    pub documentation: &'static str,
}

#[derive(Clone, Copy)]
pub enum Allowed {
    Int(i64, i64),
    Long(i64, i64),
    Ratio,
    Boolean,
    One(&'static [&'static str]),
    Words(&'static [&'static str]),
    List,
}

impl Allowed {
    /// ConfigType of the protocol.
    pub fn kind(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::One(_) => 2,
            Self::Int(..) => 3,
            Self::Long(..) => 5,
            Self::Ratio => 6,
            Self::Words(_) | Self::List => 7,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(min, max) | Self::Long(min, max) => write!(f, "it is a number from {min} to {max}"),
            Self::Ratio => f.write_str("it is a number from 0 to 1"),
            Self::Boolean => f.write_str("it is true or false"),
            Self::One(words) => write!(f, "it is {}", words.join(" or ")),
            Self::Words(words) => write!(f, "it is a list of {}", words.join(", ")),
            Self::List => f.write_str("it is a list"),
        }
    }
}

const fn setting(
    name: &'static str,
    default: &'static str,
    allowed: Allowed,
    documentation: &'static str,
) -> Setting {
    Setting { name, default, allowed, documentation }
}

const LONG: i64 = i64::MAX;
const INT: i64 = i32::MAX as i64;
const ONE_NODE: &str = "Accepted without effect: there is one node.";
const NO_EFFECT: &str = "Accepted without effect here.";
const NO_TIERS: &str = "Accepted without effect: there is no remote storage.";

/// By name.
pub const SETTINGS: &[Setting] = &[
    setting(
        "cleanup.policy",
        "delete",
        Allowed::Words(&["delete", "compact"]),
        "Whether old segments are deleted, or compacted to the last record of each key, or both.",
    ),
    setting("compression.gzip.level", "-1", Allowed::Int(-1, 9), NO_EFFECT),
    setting("compression.lz4.level", "9", Allowed::Int(1, 17), NO_EFFECT),
    setting(
        "compression.type",
        "producer",
        Allowed::One(&["producer"]),
        "Records stay compressed as the producer sent them.",
    ),
    setting("compression.zstd.level", "3", Allowed::Int(-131_072, 22), NO_EFFECT),
    setting(
        "delete.retention.ms",
        "86400000",
        Allowed::Long(0, LONG),
        "How long a compacted topic keeps tombstones.",
    ),
    setting("file.delete.delay.ms", "60000", Allowed::Long(0, LONG), NO_EFFECT),
    setting(
        "flush.messages",
        "9223372036854775807",
        Allowed::Long(1, LONG),
        "Without effect: see --log-fsync.",
    ),
    setting("flush.ms", "9223372036854775807", Allowed::Long(0, LONG), "Without effect: see --log-fsync."),
    setting("follower.replication.throttled.replicas", "", Allowed::List, ONE_NODE),
    setting("index.interval.bytes", "4096", Allowed::Int(0, INT), NO_EFFECT),
    setting("leader.replication.throttled.replicas", "", Allowed::List, ONE_NODE),
    setting("local.retention.bytes", "-2", Allowed::Long(-2, LONG), NO_TIERS),
    setting("local.retention.ms", "-2", Allowed::Long(-2, LONG), NO_TIERS),
    setting(
        "max.compaction.lag.ms",
        "9223372036854775807",
        Allowed::Long(1, LONG),
        "No later than this a record is compacted.",
    ),
    setting(
        "max.message.bytes",
        "1048588",
        Allowed::Int(0, 128 << 20),
        "The largest batch that is taken, as it is sent.",
    ),
    setting(
        "message.timestamp.after.max.ms",
        "3600000",
        Allowed::Long(0, LONG),
        "How far a record's timestamp may be ahead of the clock.",
    ),
    setting(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        Allowed::Long(0, LONG),
        "How far a record's timestamp may be behind the clock.",
    ),
    setting(
        "message.timestamp.type",
        "CreateTime",
        Allowed::One(&["CreateTime", "LogAppendTime"]),
        "Whether records keep the producer's time or get the time of their arrival.",
    ),
    setting(
        "min.cleanable.dirty.ratio",
        "0.5",
        Allowed::Ratio,
        "A topic is compacted when so much of it is not yet.",
    ),
    setting("min.compaction.lag.ms", "0", Allowed::Long(0, LONG), "Younger records are not compacted."),
    setting("min.insync.replicas", "1", Allowed::Int(1, INT), ONE_NODE),
    setting("preallocate", "false", Allowed::Boolean, NO_EFFECT),
    setting("remote.log.copy.disable", "false", Allowed::One(&["false"]), NO_TIERS),
    setting("remote.log.delete.on.disable", "false", Allowed::One(&["false"]), NO_TIERS),
    setting("remote.storage.enable", "false", Allowed::One(&["false"]), NO_TIERS),
    setting(
        "retention.bytes",
        "-1",
        Allowed::Long(-1, LONG),
        "The oldest segments of a partition go when the rest is larger; -1: without limit.",
    ),
    setting(
        "retention.ms",
        "604800000",
        Allowed::Long(-1, LONG),
        "Segments whose newest record is older go; -1: they stay.",
    ),
    setting("segment.bytes", "134217728", Allowed::Int(1024, INT), "The size of a segment file."),
    setting("segment.index.bytes", "10485760", Allowed::Int(4, INT), NO_EFFECT),
    setting("segment.jitter.ms", "0", Allowed::Long(0, LONG), NO_EFFECT),
    setting(
        "segment.ms",
        "604800000",
        Allowed::Long(1, LONG),
        "The age at which a segment is closed, so that it can be deleted or compacted.",
    ),
    setting("unclean.leader.election.enable", "false", Allowed::Boolean, ONE_NODE),
];
