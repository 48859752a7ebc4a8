//! Tests of topics in a folder.

use super::*;
use crate::Fsync;

const NOW_MS: i64 = 1_760_000_000_000;

fn open(folder: &Path) -> Topics {
    Topics::open(folder, Syncer::start(Fsync::Os).unwrap(), NOW_MS).unwrap()
}

fn create(topics: &Topics, name: &str, partitions: i32) -> Result<Arc<Topic>, Refused> {
    topics.create(name, partitions, BTreeMap::new(), false, NOW_MS)
}

fn names(topics: &Topics) -> Vec<String> {
    topics.all().iter().map(|topic| topic.name.clone()).collect()
}

#[test]
fn topics_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let id = create(&topics, "b", 3).unwrap().id;
    create(&topics, "a", 1).unwrap();
    create(&topics, "gone", 2).unwrap();
    topics.delete("gone").unwrap();
    topics.alter("b", &[ConfigChange::Set("retention.ms".into(), "7".into())], false).unwrap();
    topics.grow("b", 5, false, NOW_MS).unwrap();
    for clean in [false, true] {
        let again = open(folder.path());
        assert_eq!(names(&again), ["a", "b"], "clean {clean}");
        let topic = again.by_id(id).unwrap();
        assert_eq!((topic.partitions.len(), topic.config["retention.ms"].as_str()), (5, "7"));
        again.close().unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path().join("topics")).unwrap().count(), 2);
    let entry =
        Topics::describe(&topics.get("b").unwrap()).into_iter().find(|entry| entry.name == "retention.ms");
    assert!(entry.is_some_and(|entry| entry.value == "7" && !entry.is_default && entry.kind == 5));
}

#[test]
fn wrong_wishes_are_refused_as_in_kafka() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    create(&topics, "a.b", 1).unwrap();
    let long = "x".repeat(250);
    for (name, partitions, error) in [
        ("a.b", 1, ResponseError::TopicAlreadyExists),
        ("a_b", 1, ResponseError::InvalidTopicException),
        ("", 1, ResponseError::InvalidTopicException),
        ("..", 1, ResponseError::InvalidTopicException),
        ("a/b", 1, ResponseError::InvalidTopicException),
        ("ä", 1, ResponseError::InvalidTopicException),
        (&long, 1, ResponseError::InvalidTopicException),
        ("c", 0, ResponseError::InvalidPartitions),
        ("c", -1, ResponseError::InvalidPartitions),
        ("c", 10_000, ResponseError::InvalidPartitions),
        ("c", i32::MAX, ResponseError::InvalidPartitions),
    ] {
        assert_eq!(create(&topics, name, partitions).err().unwrap().error, error, "{name} {partitions}");
    }
    let config = BTreeMap::from([("x".to_owned(), "y".to_owned())]);
    assert_eq!(
        topics.create("c", 1, config, false, NOW_MS).err().unwrap().error,
        ResponseError::InvalidConfig
    );
    assert_eq!(topics.grow("a.b", 1, false, NOW_MS).unwrap_err().error, ResponseError::InvalidPartitions);
    assert_eq!(topics.delete("c").unwrap_err().error, ResponseError::UnknownTopicOrPartition);
    topics.create("c", 1, BTreeMap::new(), true, NOW_MS).unwrap();
    topics.grow("a.b", 9, true, NOW_MS).unwrap();
    assert_eq!((names(&topics), topics.get("a.b").unwrap().partitions.len()), (vec!["a.b".to_owned()], 1));
}

#[test]
fn a_deleted_topic_takes_nothing_and_can_be_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let old = create(&topics, "t", 1).unwrap();
    let mut changes = old.partitions[0].changes();
    changes.mark_unchanged();
    topics.delete("t").unwrap();
    assert!(changes.has_changed().unwrap());
    let error = old.partitions[0].read(0, 1, true, crate::log::Isolation::ReadUncommitted).unwrap_err().error;
    assert_eq!(error, ResponseError::UnknownTopicOrPartition);
    assert_ne!(create(&topics, "t", 1).unwrap().id, old.id);
    topics.maintain(NOW_MS);
    assert_eq!(std::fs::read_dir(folder.path().join("topics")).unwrap().count(), 1);
}

#[test]
fn leftovers_go_and_what_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    create(&topics, "t", 1).unwrap();
    for leftover in ["~making-1/0", "~deleted-2/0"] {
        std::fs::create_dir_all(folder.path().join("topics").join(leftover)).unwrap();
    }
    drop(topics);
    assert_eq!(names(&open(folder.path())), ["t"]);
    assert_eq!(std::fs::read_dir(folder.path().join("topics")).unwrap().count(), 1);
    std::fs::create_dir(folder.path().join("topics/photos")).unwrap();
    let refused = Topics::open(folder.path(), Syncer::start(Fsync::Os).unwrap(), NOW_MS).err().unwrap();
    assert!(refused.to_string().contains("photos is no topic"), "{refused}");
}

fn append(log: &PartitionLog) {
    let batch = crate::log::tests::Made::values(3).bytes();
    log.append(batch, NOW_MS).unwrap();
}

#[test]
fn what_still_works_on_a_deleted_topic_leaves_the_new_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let old = create(&topics, "t", 1).unwrap();
    append(&old.partitions[0]);
    topics.delete("t").unwrap();
    let new = create(&topics, "t", 1).unwrap();
    append(&new.partitions[0]);
    new.partitions[0].close().unwrap();
    let logs = storage::logs_folder(&folder.path().join("topics"), "t", new.id).join("0");
    let files = || {
        let entries = std::fs::read_dir(&logs).unwrap().map(Result::unwrap);
        let content = |entry: std::fs::DirEntry| (entry.file_name(), std::fs::read(entry.path()).unwrap());
        entries.map(content).collect::<BTreeMap<_, _>>()
    };
    let before = files();
    // As a maintenance that was under way: it rolls, checkpoints and removes the old log's only segment.
    assert!(old.partitions[0].maintain_late(NOW_MS + (30 << 30)).is_err());
    assert_eq!(files(), before);
    assert!(before.len() > 3);
}

#[test]
fn a_folder_of_the_first_layout_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let topic = create(&topics, "t", 2).unwrap();
    topic.partitions.iter().for_each(|log| append(log));
    topics.close().unwrap();
    let of_topic = folder.path().join("topics/t");
    for partition in ["0", "1"] {
        std::fs::rename(of_topic.join(topic.id.to_string()).join(partition), of_topic.join(partition))
            .unwrap();
    }
    let ends =
        |topic: Arc<Topic>| topic.partitions.iter().map(|log| log.bounds().log_end).collect::<Vec<_>>();
    assert_eq!(ends(open(folder.path()).get("t").unwrap()), [3, 3]);
    assert!(!of_topic.join("0").exists());
}

#[test]
fn a_topic_whose_logs_can_not_be_opened_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Partition folders have a path just short enough, the files in them have not.
    let name = "x".repeat(NAME_MAX);
    let mut deep = folder.path().to_owned();
    let longest = 4095 - 20 - ("/topics/".len() + NAME_MAX + "/".len() + 36 + "/0".len());
    while deep.as_os_str().len() < longest {
        let room = longest - deep.as_os_str().len();
        deep.push("d".repeat((room.saturating_sub(1)).clamp(1, 100)));
    }
    std::fs::create_dir_all(&deep).unwrap();
    let topics = open(&deep);
    for _ in 0..2 {
        let refused = create(&topics, &name, 1).err().unwrap();
        assert!(refused.message.contains("too long"), "{refused}");
    }
    assert!(names(&open(&deep)).is_empty());
    topics.maintain(NOW_MS);
    assert_eq!(std::fs::read_dir(deep.join("topics")).unwrap().count(), 0);
}

#[test]
fn a_topic_that_can_not_grow_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let topic = create(&topics, "t", 1).unwrap();
    let logs = storage::logs_folder(&folder.path().join("topics"), "t", topic.id);
    let in_the_way = logs.join("1/00000000000000000000.log");
    std::fs::create_dir_all(&in_the_way).unwrap();
    assert_eq!(topics.grow("t", 2, false, NOW_MS).unwrap_err().error, ResponseError::KafkaStorageError);
    assert_eq!(open(folder.path()).get("t").unwrap().partitions.len(), 1);
    std::fs::remove_dir(in_the_way).unwrap();
    topics.grow("t", 2, false, NOW_MS).unwrap();
    assert_eq!(open(folder.path()).get("t").unwrap().partitions.len(), 2);
}

#[test]
fn more_partitions_than_files_can_be_open_are_refused_before_anything_is_made() {
    assert_eq!([None, Some(1 << 20), Some(80)].map(partitions_max), [PARTITIONS_MAX, PARTITIONS_MAX, 40]);
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics { partitions_max: 3, ..open(folder.path()) };
    create(&topics, "t", 2).unwrap();
    let refused = create(&topics, "u", 2).err().unwrap();
    assert_eq!(refused.error, ResponseError::InvalidPartitions);
    assert!(refused.message.contains("open files"), "{refused}");
    assert_eq!(topics.grow("t", 4, false, NOW_MS).unwrap_err().error, ResponseError::InvalidPartitions);
    assert_eq!(std::fs::read_dir(folder.path().join("topics")).unwrap().count(), 1);
    topics.grow("t", 3, false, NOW_MS).unwrap();
}
