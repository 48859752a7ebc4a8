//! Arithmetic on window rows: what follows from the counts and the sketch, and the merge of two rows.

use crate::sketch::{PerMille, Sketch, SketchError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use millrace_schemas::AggregateRow;

/// Adds `delta` to `row`, which keeps its identity, becomes final and gets the next revision.
pub fn merge(row: &mut AggregateRow, delta: &AggregateRow) -> Result<(), SketchError> {
    let mut sketch = decode_sketch(&row.sketch)?;
    sketch.merge(&decode_sketch(&delta.sketch)?);
    row.query_count += delta.query_count;
    row.success_count += delta.success_count;
    row.failed_count += delta.failed_count;
    row.timeout_count += delta.timeout_count;
    row.cancelled_count += delta.cancelled_count;
    row.duration_count += delta.duration_count;
    row.late_count += delta.late_count;
    row.total_rows_affected = either(row.total_rows_affected, delta.total_rows_affected, i64::saturating_add);
    row.sum_duration_ms = either(row.sum_duration_ms, delta.sum_duration_ms, |a, b| a + b);
    row.min_duration_ms = either(row.min_duration_ms, delta.min_duration_ms, f64::min);
    row.max_duration_ms = either(row.max_duration_ms, delta.max_duration_ms, f64::max);
    row.position = row.position.max(delta.position);
    row.revision += 1;
    row.is_final = true;
    row.sketch = encode_sketch(&sketch.to_bytes());
    derive(row, &sketch);
    Ok(())
}

/// Fills what follows from the counts, sums and the sketch.
pub fn derive(row: &mut AggregateRow, sketch: &Sketch) {
    let unsuccessful = row.failed_count + row.timeout_count + row.cancelled_count;
    row.error_rate = ratio(unsuccessful, row.query_count).unwrap_or(0.0);
    row.avg_duration_ms = row.sum_duration_ms.and_then(|sum| Some(sum / ratio(row.duration_count, 1)?));
    let quantiles = || {
        let (min, max) = (row.min_duration_ms?, row.max_duration_ms?);
        let values = sketch.quantiles([500, 950, 990].map(PerMille))?;
        Some(values.map(|value| value.clamp(min, max)))
    };
    [row.p50_duration_ms, row.p95_duration_ms, row.p99_duration_ms] =
        quantiles().map_or([None; 3], |values| values.map(Some));
}

pub fn encode_sketch(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// As the tables hold it.
pub fn sketch_bytes(text: &str) -> Result<Vec<u8>, SketchError> {
    STANDARD.decode(text).map_err(|_| SketchError::Base64)
}

pub fn decode_sketch(text: &str) -> Result<Sketch, SketchError> {
    Sketch::from_bytes(&sketch_bytes(text)?)
}

fn either<T>(a: Option<T>, b: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (a, b) => a.or(b),
    }
}

/// `None` of nothing by nothing.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ratio(part: i64, whole: i64) -> Option<f64> {
    (whole != 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests;
