use super::*;
use millrace_schemas::RecordId;
use proptest::prelude::*;
use uuid::Uuid;

const NOW: EventTime = EventTime(1_000_000_000);

fn settings(dedupe_records: u32) -> AdmissionSettings {
    AdmissionSettings { dedupe_records, ..AdmissionSettings::default() }
}

fn identity(id: u128) -> Identity {
    Identity {
        workspace: WorkspaceId(Uuid::from_u128(7)),
        id: RecordId(Uuid::from_u128(id)),
        completed_at: NOW,
        running: false,
    }
}

fn judge(admission: &mut Admission, offset: i64, id: u128) -> Verdict {
    admission.judge(offset, NOW, Ok(identity(id)), |_| Some(NOW))
}

#[test]
fn a_repeat_is_a_duplicate_until_the_generation_after_next() {
    let mut admission = Admission::new(&settings(10));
    assert_eq!(judge(&mut admission, 0, 1), Verdict::Counted);
    assert_eq!(judge(&mut admission, 19, 1), Verdict::Duplicate);
    assert_eq!(judge(&mut admission, 20, 2), Verdict::Counted);
    assert_eq!(judge(&mut admission, 29, 1), Verdict::Duplicate, "seen again at 19");
    assert_eq!(judge(&mut admission, 50, 1), Verdict::Counted);
}

#[test]
fn the_same_id_of_another_workspace_or_of_a_running_query_is_another_record() {
    let mut admission = Admission::new(&settings(10));
    assert_eq!(judge(&mut admission, 0, 1), Verdict::Counted);
    let other = Identity { workspace: WorkspaceId(Uuid::from_u128(8)), ..identity(1) };
    assert_eq!(admission.judge(1, NOW, Ok(other), |_| Some(NOW)), Verdict::Counted);
    let running = Identity { running: true, ..identity(1) };
    assert_eq!(admission.judge(2, NOW, Ok(running), |_| Some(NOW)), Verdict::Counted);
}

#[test]
fn what_can_not_be_counted_is_not_remembered() {
    let mut admission = Admission::new(&settings(10));
    let far = Identity { completed_at: NOW.saturating_add(Duration::from_secs(301)), ..identity(1) };
    let verdict = admission.judge(0, NOW, Ok(far), |_| Some(NOW));
    assert!(matches!(verdict, Verdict::DeadLetter { reason: Reason::Future, .. }), "{verdict:?}");
    let verdict = admission.judge(1, NOW, Ok(identity(1)), |_| None);
    assert!(matches!(verdict, Verdict::DeadLetter { reason: Reason::UnknownWorkspace, .. }), "{verdict:?}");
    let verdict = admission.judge(2, NOW, Err(FieldError::new("id", "is required")), |_| Some(NOW));
    assert!(
        matches!(verdict, Verdict::DeadLetter { reason: Reason::Invalid, ref error } if error == "id: is required")
    );
    assert_eq!(judge(&mut admission, 3, 1), Verdict::Counted);
}

#[test]
fn a_record_that_came_before_its_workspace_is_a_dead_letter_whenever_it_is_judged() {
    let late = |created: i64| move |_| Some(EventTime(created));
    let mut admission = Admission::new(&settings(10));
    let verdict = admission.judge(0, NOW, Ok(identity(1)), late(NOW.0 + 1));
    let expected = "workspace_id: 00000000-0000-0000-0000-000000000007 was created at 1970-01-01T00:16:40.000001Z, \
                    after the record came at 1970-01-01T00:16:40Z";
    assert!(
        matches!(verdict, Verdict::DeadLetter { reason: Reason::UnknownWorkspace, ref error } if error == expected)
    );
    let replayed_at = NOW.saturating_add(Duration::from_secs(1));
    let verdict = admission.judge(1, replayed_at, Ok(identity(1)), late(NOW.0 + 1));
    assert_eq!(verdict, Verdict::Counted, "it was not remembered");
}

proptest! {
    /// Restored at any offset, the memory gives the verdicts that it would have given without the restart.
    #[test]
    fn a_restart_changes_no_verdict(ids in prop::collection::vec(0_u128..12, 1..120), crash in 0_usize..120) {
        let settings = settings(10);
        let offsets = || (0_i64..).zip(ids.iter().copied());
        let mut straight = Admission::new(&settings);
        let expected: Vec<_> = offsets().map(|(offset, id)| judge(&mut straight, offset, id)).collect();

        let crash = crash.min(ids.len());
        let next = NextOffset::exclusive(i64::try_from(crash).expect("small"));
        let from = usize::try_from(Admission::restore_from(next, &settings).get()).expect("not negative");
        let mut restored = Admission::new(&settings);
        let verdicts: Vec<_> =
            offsets().skip(from).map(|(offset, id)| judge(&mut restored, offset, id)).collect();
        prop_assert_eq!(&verdicts[crash - from..], &expected[crash..]);
    }
}

#[test]
fn a_running_query_is_not_a_repeat_of_its_neighbour() {
    let mut admission = Admission::new(&settings(1_000));
    for id in 0..100 {
        let identity = Identity { running: id % 2 == 0, ..identity(id) };
        let offset = i64::try_from(id).expect("small");
        assert_eq!(admission.judge(offset, NOW, Ok(identity), |_| Some(NOW)), Verdict::Counted, "{id}");
    }
}
