//! The pipeline for Prometheus, as of the last look at it.

use super::{Pipeline, Reason, Stages, Watermark};
use millrace_schemas::EventTime;
use prometheus::{Error, GaugeVec, IntGaugeVec, Opts, Registry, core::Collector};

#[derive(Clone)]
pub struct PipelineMeters {
    log_end: IntGaugeVec,
    reached: IntGaugeVec,
    lag: IntGaugeVec,
    event_time: GaugeVec,
    idle: IntGaugeVec,
    watermark: GaugeVec,
    reason: IntGaugeVec,
}

const REASONS: [(&str, Reason); 4] = [
    ("active", Reason::Active),
    ("idle", Reason::Idle),
    ("wall_clock", Reason::WallClock),
    ("unknown", Reason::Unknown),
];

/// The `partition` of what holds for the pipeline as a whole.
const ALL: &str = "all";

impl PipelineMeters {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let by =
            |name, help, labels: &[&str]| add(registry, IntGaugeVec::new(Opts::new(name, help), labels)?);
        Ok(Self {
            log_end: by(
                "millrace_pipeline_log_end",
                "End of a metrics partition, an offset",
                &["partition"],
            )?,
            reached: by(
                "millrace_pipeline_reached",
                "Offset of a metrics partition that a stage has reached: combine, windows, sink, archive",
                &["stage", "partition"],
            )?,
            lag: by(
                "millrace_pipeline_lag_records",
                "Offsets from what a stage has reached to the log's end",
                &["stage", "partition"],
            )?,
            event_time: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millrace_pipeline_event_time_seconds",
                        "Highest event time of a metrics partition, Unix time",
                    ),
                    &["partition"],
                )?,
            )?,
            idle: by(
                "millrace_pipeline_idle",
                "1 if a metrics partition is idle and does not hold the watermark back",
                &["partition"],
            )?,
            watermark: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millrace_pipeline_watermark_seconds",
                        "Watermark of a metrics partition, and of the slowest windows (`all`), Unix time",
                    ),
                    &["partition"],
                )?,
            )?,
            reason: by(
                "millrace_pipeline_watermark_reason",
                "1 for the reason why the watermark stands where it does: active, idle, wall_clock, unknown",
                &["partition", "reason"],
            )?,
        })
    }

    pub fn show(&self, pipeline: &Pipeline) {
        self.show_watermark(ALL, pipeline.watermark);
        for partition in &pipeline.partitions {
            let label = partition.partition.to_string();
            self.log_end.with_label_values(&[&label]).set(partition.log_end);
            show_stages(&self.reached, &label, &partition.reached);
            show_stages(&self.lag, &label, &partition.lag);
            let idle = matches!(partition.watermark.reason, Reason::Idle | Reason::WallClock);
            self.idle.with_label_values(&[&label]).set(i64::from(idle));
            self.show_watermark(&label, partition.watermark);
            if let Some(time) = partition.max_event_time {
                self.event_time.with_label_values(&[&label]).set(seconds(time));
            }
        }
    }

    fn show_watermark(&self, partition: &str, watermark: Watermark) {
        if let Some(time) = watermark.time {
            self.watermark.with_label_values(&[partition]).set(seconds(time));
        }
        for (name, reason) in REASONS {
            let is_it = i64::from(watermark.reason == reason);
            self.reason.with_label_values(&[partition, name]).set(is_it);
        }
    }
}

/// What is not known is not shown.
fn show_stages(gauges: &IntGaugeVec, partition: &str, stages: &Stages) {
    let Stages { combine, windows, sink, archive } = *stages;
    for (stage, number) in [("combine", combine), ("windows", windows), ("sink", sink), ("archive", archive)]
    {
        if let Some(number) = number {
            gauges.with_label_values(&[stage, partition]).set(number);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds for a gauge")]
fn seconds(time: EventTime) -> f64 {
    time.as_millis() as f64 / 1000.0
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
