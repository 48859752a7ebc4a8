//! What the sink does about an error of the database: one total decision.

use sqlx::error::ErrorKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The database is away, busy or changing over: the same transaction may succeed later.
    Retry,
    /// A row can't be stored, however often it is tried: it is left out.
    Refuse,
    /// The schema, the rights or this program are not what they must be: a person has to act.
    Stop,
}

pub fn reaction(error: &sqlx::Error) -> Reaction {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Reaction::Retry,
        sqlx::Error::Database(error) => match (error.kind(), error.code()) {
            // A workspace was deleted meanwhile: the next try will not name it.
            (ErrorKind::ForeignKeyViolation, _) => Reaction::Retry,
            (_, Some(code)) => reaction_to_state(&code),
            (_, None) => Reaction::Stop,
        },
        sqlx::Error::Encode(_) => Reaction::Refuse,
        _ => Reaction::Stop,
    }
}

/// By class of the SQLSTATE (PostgreSQL, appendix A).
fn reaction_to_state(code: &str) -> Reaction {
    // A standby that was the primary: the connection will find the new one. `57014`: a time-out or an operator.
    if code == "25006" {
        return Reaction::Retry;
    }
    match code.get(..2) {
        // connection, transaction rollback, resources, object in use, operator intervention, system, access (a
        // password or a host rule may be changing), connection limit or missing database, internal
        Some("08" | "40" | "53" | "55" | "57" | "58" | "28" | "3D" | "XX") => Reaction::Retry,
        // cardinality, data, integrity constraint, program limit
        Some("21" | "22" | "23" | "54") => Reaction::Refuse,
        _ => Reaction::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_database_is_waited_for() {
        assert_eq!(reaction(&sqlx::Error::PoolTimedOut), Reaction::Retry);
        for code in ["08006", "40001", "40P01", "53300", "57P01", "57P03", "57014", "25006", "28P01", "XX000"]
        {
            assert_eq!(reaction_to_state(code), Reaction::Retry, "{code}");
        }
    }

    #[test]
    fn a_bad_row_is_refused_and_a_missing_table_stops() {
        for code in ["22003", "22P02", "23514", "54000"] {
            assert_eq!(reaction_to_state(code), Reaction::Refuse, "{code}");
        }
        for code in ["42P01", "42703", "42501", "0A000", "", "?"] {
            assert_eq!(reaction_to_state(code), Reaction::Stop, "{code}");
        }
        assert_eq!(reaction(&sqlx::Error::RowNotFound), Reaction::Stop);
    }
}
