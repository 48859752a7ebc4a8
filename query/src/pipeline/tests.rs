use super::*;
use millrace_schemas::progress::{self, VERSION};

const NOW: EventTime = EventTime(1_000_000_000);

fn at(second: i64) -> EventTime {
    EventTime(second * 1_000_000)
}

fn told(watermark: Option<EventTime>, sources: &[Option<(i64, bool)>]) -> Progress {
    let source = |(event_s, idle)| progress::Source {
        taken: Some(8),
        emitted: Some(7),
        max_event_time: Some(at(event_s)),
        idle,
    };
    Progress {
        version: VERSION,
        partition: 0,
        partitions: 1,
        position: 3,
        aggregates: Some(5),
        watermark,
        watermark_delay_ms: 2_000,
        late_horizon_ms: None,
        sources: sources.iter().map(|told| told.map(source)).collect(),
    }
}

fn pipeline(progress: Option<Progress>) -> Pipeline {
    let reach = Reach::default();
    progress.into_iter().for_each(|progress| reach.told(progress));
    reach.sink_is_at(&[(0, 5)].into());
    let ends = [End { offset: 10, newest: Some(at(999)) }, End { offset: 10, newest: None }];
    let combine = Committed::from([(0, 9), (1, 10)]);
    let archive = Committed::from([(0, 4)]);
    let topic = "metrics";
    Pipeline::of(&Parts { topic, ends: &ends, reach: &reach, combine: &combine, archive: &archive, now: NOW })
}

fn reasons(pipeline: &Pipeline) -> Vec<Reason> {
    let each = pipeline.partitions.iter().map(|partition| partition.watermark.reason);
    std::iter::once(pipeline.watermark.reason).chain(each).collect()
}

#[test]
fn tells_how_far_each_stage_is() {
    let pipeline = pipeline(Some(told(Some(at(50)), &[Some((60, false)), Some((52, false))])));
    let first = &pipeline.partitions[0];
    let reached = Stages { combine: Some(9), windows: Some(7), sink: Some(7), archive: Some(4) };
    assert_eq!(first.reached, reached);
    assert_eq!(first.lag, Stages { combine: Some(1), windows: Some(3), sink: Some(3), archive: Some(6) });
    let lag = Stages { combine: Some(1), windows: Some(6), sink: Some(6), archive: None };
    assert_eq!(pipeline.lag, lag, "of the archive one partition is not known");
    assert_eq!((first.last_record_at, first.active_ms_ago), (Some(at(999)), Some(1_000)));
    assert_eq!(pipeline.partitions[1].active_ms_ago, None);
}

#[test]
fn an_active_partition_has_a_watermark_of_its_own_and_the_slowest_is_the_pipelines() {
    let pipeline = pipeline(Some(told(Some(at(50)), &[Some((60, false)), Some((52, false))])));
    assert_eq!(reasons(&pipeline), [Reason::Active; 3]);
    let times: Vec<_> = pipeline.partitions.iter().map(|partition| partition.watermark.time).collect();
    assert_eq!((pipeline.watermark.time, times), (Some(at(50)), vec![Some(at(58)), Some(at(50))]));
}

#[test]
fn an_idle_partition_goes_with_the_others() {
    let pipeline = pipeline(Some(told(Some(at(58)), &[Some((60, false)), Some((2, true))])));
    assert_eq!(reasons(&pipeline), [Reason::Active, Reason::Active, Reason::Idle]);
    assert_eq!(pipeline.partitions[1].watermark.time, Some(at(58)));
}

#[test]
fn when_all_are_idle_the_wall_clock_goes_on() {
    let pipeline = pipeline(Some(told(Some(at(70)), &[Some((60, true)), Some((2, true))])));
    assert_eq!(reasons(&pipeline), [Reason::WallClock; 3]);
    assert_eq!(pipeline.watermark.time, Some(at(998)));
}

#[test]
fn what_nobody_has_told_is_unknown() {
    let waiting = pipeline(Some(told(None, &[Some((60, false)), None])));
    assert_eq!(reasons(&waiting), [Reason::Unknown, Reason::Active, Reason::Unknown]);
    let nothing = pipeline(None);
    assert_eq!(reasons(&nothing), [Reason::Unknown; 3]);
    let reached = Stages { combine: Some(9), archive: Some(4), ..Stages::default() };
    assert_eq!(nothing.partitions[0].reached, reached);
}
