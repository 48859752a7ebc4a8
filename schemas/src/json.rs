//! Reads JSON that anyone may have written, with a fast parser, but never deeper than a stack can hold: the parser has no
//! limit of its own in the fields that it skips.

use crate::{FieldError, QueryMetric};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

/// The deepest nesting of arrays and objects that is read, as serde_json has it.
pub const DEPTH_MAX: usize = 128;

/// One record, which must be a JSON object. What is wrong is said in the words that the edge uses too.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FieldError> {
    check(bytes)?;
    sonic_rs::from_slice(bytes).map_err(|error| explain(bytes, &error))
}

/// An object that is no raw record. Numbers are read to the last bit, which serde_json does not do.
pub(crate) fn read_object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FieldError> {
    check(bytes)?;
    sonic_rs::from_slice(bytes).map_err(|error| FieldError::new("", error.to_string()))
}

fn check(bytes: &[u8]) -> Result<(), FieldError> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        // serde would take an array for a struct, field by field.
        return Err(not_an_object(bytes));
    }
    check_depth(bytes)
}

/// Nearly all records have few brackets: counting them settles it. Only of the others the nesting is followed.
fn check_depth(bytes: &[u8]) -> Result<(), FieldError> {
    let opening = bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if opening <= DEPTH_MAX {
        return Ok(());
    }
    // Only of JSON all agree where a string ends: the fast parser takes any four bytes behind `\u`, quotes too.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| not_json(&error))?;
    if depth(bytes) > DEPTH_MAX {
        return Err(FieldError::new("", format!("more than {DEPTH_MAX} arrays and objects in one another")));
    }
    Ok(())
}

fn not_json(error: &serde_json::Error) -> FieldError {
    FieldError::new("", format!("not JSON: {error}"))
}

fn not_an_object(bytes: &[u8]) -> FieldError {
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => FieldError::new("", "a record must be a JSON object"),
        Err(error) => not_json(&error),
    }
}

/// The deepest nesting; brackets in strings don't count.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Names what is wrong with bytes that the fast parser refused.
fn explain(bytes: &[u8], error: &sonic_rs::Error) -> FieldError {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => match QueryMetric::from_value(&value) {
            Err(error) => error,
            // A field that is there twice: the fast parser shows the bytes around it, too.
            Ok(_) => {
                let said = serde_json::from_slice::<QueryMetric>(bytes).err();
                FieldError::new("", said.map_or_else(|| error.to_string(), |said| said.to_string()))
            }
        },
        Err(error) => not_json(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!(r#"{{"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn a_record_nested_deeper_than_a_stack_is_an_error() {
        let error = read::<Value>(nested(1_000_000).as_bytes()).expect_err("too deep");
        assert_eq!(error.message, "more than 128 arrays and objects in one another");
        assert!(read::<Value>(nested(DEPTH_MAX).as_bytes()).is_err());
        assert!(read::<Value>(nested(DEPTH_MAX - 1).as_bytes()).is_ok());
    }

    /// The fast parser takes the quote behind `\u` for a digit, where others see the end of the string.
    #[test]
    fn what_looks_like_a_string_hides_no_depth() {
        let record = format!(r#"{{"x":"\u"abc","y":{}"#, "[".repeat(1_000_000));
        let error = read::<QueryMetric>(record.as_bytes()).expect_err("no JSON");
        assert_eq!(error.message, "not JSON: invalid escape at line 1 column 12");
    }

    #[test]
    fn a_field_that_is_there_twice_is_told_in_one_line() {
        let metric = serde_json::json!({
            "id": "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11",
            "workspace_id": "550e8400-e29b-41d4-a716-446655440000",
            "service_id": "550e8400-e29b-41d4-a716-446655440001",
            "query_text": "SELECT 1",
            "status": "success",
            "duration_ms": 1.5,
            "started_at": "2026-01-10T00:00:00Z",
            "completed_at": "2026-01-10T00:00:00Z"
        });
        let twice = metric.to_string().replacen('{', "{\"status\":\"failed\",", 1);
        let error = read::<QueryMetric>(twice.as_bytes()).expect_err("which is it?");
        assert!(error.message.starts_with("duplicate field `status` at line 1 column "), "{error}");
        assert!(!error.message.contains('\n'), "{error}");
    }

    #[test]
    fn many_brackets_side_by_side_or_in_strings_are_no_depth() {
        let record =
            format!(r#"{{"a":[{}0],"b":"{}\"{}"}}"#, "[],".repeat(500), "[".repeat(500), "{".repeat(500));
        assert!(read::<Value>(record.as_bytes()).is_ok());
    }

    #[test]
    fn only_an_object_is_a_record() {
        let message = |bytes| read::<Value>(bytes).expect_err("no object").message;
        assert_eq!(message(b" [1]"), "a record must be a JSON object");
        assert_eq!(message(b"garbage"), "not JSON: expected value at line 1 column 1");
        assert!(message(b"").starts_with("not JSON: EOF"));
    }
}
