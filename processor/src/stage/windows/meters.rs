//! What Prometheus sees of windows.

use crate::window::Windows;
use millrace_schemas::{AggregateRow, aggregate::Kind};

/// Of all partitions of a process.
#[derive(Clone)]
pub struct Meters {
    pub rows: prometheus::IntCounterVec,
    pub watermark: prometheus::GaugeVec,
    pub slots: prometheus::IntGaugeVec,
    pub position: prometheus::IntGaugeVec,
    pub garbage: prometheus::IntCounter,
}

impl Meters {
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts};
        let rows = IntCounterVec::new(
            Opts::new("millrace_windows_rows_total", "Window rows emitted: early, final or delta"),
            &["kind"],
        )?;
        let watermark = GaugeVec::new(
            Opts::new("millrace_windows_watermark_seconds", "Watermark of a partials partition, Unix time"),
            &["partition"],
        )?;
        let slots = IntGaugeVec::new(
            Opts::new(
                "millrace_windows_held",
                "Windows (size and start) held in memory for a partials partition",
            ),
            &["partition"],
        )?;
        let position = IntGaugeVec::new(
            Opts::new(
                "millrace_windows_position",
                "Offset of a partials partition up to which all is in the windows in memory",
            ),
            &["partition"],
        )?;
        let garbage = IntCounter::new(
            "millrace_windows_garbage_total",
            "Records of the partials topic that are no frames: skipped",
        )?;
        registry.register(Box::new(rows.clone()))?;
        registry.register(Box::new(watermark.clone()))?;
        registry.register(Box::new(slots.clone()))?;
        registry.register(Box::new(position.clone()))?;
        registry.register(Box::new(garbage.clone()))?;
        Ok(Self { rows, watermark, slots, position, garbage })
    }

    pub(super) fn emitted(&self, row: &AggregateRow) {
        let kind = match (row.kind, row.is_final) {
            (Kind::Delta, _) => "delta",
            (Kind::Row, true) => "final",
            (Kind::Row, false) => "early",
        };
        self.rows.with_label_values(&[kind]).inc();
    }

    pub(super) fn observe(&self, number: i32, windows: &Windows) {
        let partition = number.to_string();
        if let Some(watermark) = windows.watermark().current() {
            #[expect(clippy::cast_precision_loss, reason = "seconds for a gauge")]
            self.watermark.with_label_values(&[&partition]).set(watermark.as_millis() as f64 / 1000.0);
        }
        self.position.with_label_values(&[&partition]).set(windows.position());
        self.slots.with_label_values(&[&partition]).set(i64::try_from(windows.slots()).unwrap_or(i64::MAX));
    }
}
