//! Differences that are meant, each with its reason.

struct Allowed {
    /// Part of the operation's text.
    operation: &'static str,
    ours: &'static str,
    theirs: &'static str,
    #[expect(dead_code, reason = "it is for those who read")]
    reason: &'static str,
}

const ALLOWED: &[Allowed] = &[
    Allowed {
        operation: "describe config min.insync.replicas",
        ours: "config_source: 5",
        theirs: "config_source: 3",
        reason: "a new Kafka sets it for the cluster",
    },
    Allowed {
        operation: "alter config",
        ours: "error_code: 3,",
        theirs: "error_code: 40,",
        reason: "two things are wrong, and each names the one that it looks at first",
    },
    Allowed {
        operation: "operation 9",
        ours: "error_code: 42",
        theirs: "error_code: -1",
        reason: "there is no such operation; Kafka trips over it",
    },
    Allowed {
        operation: "acks 5",
        ours: "error_code: 21",
        theirs: "error_code: 87",
        reason: "two things are wrong, and each names the one that it looks at first",
    },
    Allowed {
        operation: "operation 3",
        ours: "error_code: 40",
        theirs: "error_code: 0",
        reason: "Kafka has a cleanup.policy that is empty (KIP-1161); ours is delete, compact or both",
    },
    Allowed {
        operation: "Cut",
        ours: "error_code: 76",
        theirs: "error_code: 87",
        reason: "two things are wrong, and each names the one that it looks at first",
    },
    Allowed {
        operation: "no.such.config=1",
        ours: "error_code: 40",
        theirs: "error_code: 0",
        reason: "Kafka takes back what it does not know",
    },
    Allowed {
        operation: "Compressed",
        ours: "error_code: 87",
        theirs: "error_code: -1",
        reason: "records that can't be decompressed are invalid; Kafka trips over some",
    },
    Allowed {
        operation: "named false",
        ours: "error_code: 3,",
        theirs: "error_code: 53",
        reason: "two things are wrong, and each names the one that it looks at first",
    },
    Allowed {
        operation: "large true",
        ours: "error_code: 12",
        theirs: "error_code: 2",
        reason: "two things are wrong, and each names the one that it looks at first",
    },
];

/// Whether an answer that differs is known to.
pub fn known(operation: &str, ours: &str, theirs: &str) -> bool {
    let known = |allowed: &Allowed| {
        operation.contains(allowed.operation)
            && ours.contains(allowed.ours)
            && theirs.contains(allowed.theirs)
    };
    ALLOWED.iter().any(known)
}
