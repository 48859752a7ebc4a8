//! What a workspace or a service may be called.

use crate::Error;

/// The most characters of a name, as the tables have it.
const CHARACTERS_MAX: usize = 255;

/// Refuses what PostgreSQL would: too short or long, or with a NUL.
pub fn validate(what: &'static str, name: &str, characters_min: usize) -> Result<(), Error> {
    let characters = name.chars().count();
    if !(characters_min..=CHARACTERS_MAX).contains(&characters) {
        let reason = format!("has {characters} characters; {characters_min} to {CHARACTERS_MAX} are allowed");
        return Err(Error::Name { what, reason });
    }
    if name.contains('\0') {
        return Err(Error::Name { what, reason: "must not contain a NUL character".to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_characters_and_only_a_service_may_have_no_name() {
        assert!(validate("workspace", "", 1).is_err());
        assert!(validate("service", "", 0).is_ok());
        assert!(validate("workspace", &"ä".repeat(255), 1).is_ok());
        assert!(validate("workspace", &"ä".repeat(256), 1).is_err());
        assert!(validate("service", "a\0b", 0).is_err());
    }
}
