//! A coordinator with one topic, and short ways to ask it.

use super::*;
use crate::{Fsync, log::Bounds};
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        join_group_request::JoinGroupRequestProtocol,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::OffsetFetchRequestTopic,
        sync_group_request::SyncGroupRequestAssignment,
        txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
    },
    protocol::StrBytes,
    records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};

/// How many records the topic has.
pub const FILLED: i64 = 10;

pub struct Site {
    folder: tempfile::TempDir,
    pub syncer: Arc<Syncer>,
    pub topics: Arc<Topics>,
}

impl Site {
    pub fn new() -> Self {
        Self::with(Fsync::Always)
    }

    pub fn with(fsync: Fsync) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let syncer = Syncer::start(fsync).unwrap();
        let topics =
            Topics::open(&folder.path().join("topics"), Arc::clone(&syncer), clock::now_ms()).unwrap();
        let topic = topics.create("topic", 1, Default::default(), false, clock::now_ms()).unwrap();
        for _ in 0..FILLED {
            topic.partitions[0].append(batch(Producer { id: -1, epoch: -1 }), clock::now_ms()).unwrap();
        }
        Self { folder, syncer, topics: Arc::new(topics) }
    }

    pub fn open(&self) -> Arc<Coordinator> {
        Coordinator::open(self.folder.path(), Arc::clone(&self.topics), Arc::clone(&self.syncer)).unwrap()
    }

    pub fn journal(&self) -> std::path::PathBuf {
        self.folder.path().join(journal::FILE_NAME)
    }

    pub fn log(&self) -> Arc<crate::log::PartitionLog> {
        Arc::clone(&self.topics.get("topic").unwrap().partitions[0])
    }

    pub fn bounds(&self) -> Bounds {
        self.log().bounds()
    }

    pub async fn until(&self, holds: impl Fn() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it holds in time");
    }

    /// Joins and syncs alone: member id and generation.
    pub async fn join(&self, coordinator: &Coordinator, group: &str) -> (String, i32) {
        let client = Client { id: "c".into(), host: "/127.0.0.1".into() };
        let id = coordinator.join_group(&client, 9, join_request(group, "")).await;
        assert_eq!(id.error_code, ResponseError::MemberIdRequired.code());
        let joined = coordinator.join_group(&client, 9, join_request(group, &id.member_id)).await;
        assert_eq!((joined.error_code, joined.members.len()), (0, 1));
        let assignment = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
        let sync = SyncGroupRequest::default()
            .with_group_id(name(group).into())
            .with_member_id(joined.member_id.clone())
            .with_generation_id(joined.generation_id)
            .with_protocol_type(joined.protocol_type)
            .with_protocol_name(joined.protocol_name)
            .with_assignments(vec![assignment.with_assignment(Bytes::from_static(b"all"))]);
        let synced = coordinator.sync_group(&client, 5, sync).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
        (joined.member_id.to_string(), joined.generation_id)
    }

    pub async fn commit(
        &self,
        coordinator: &Coordinator,
        group: &str,
        (member, generation): (&str, i32),
        offset: i64,
    ) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default().with_name(name("topic").into());
        let request = OffsetCommitRequest::default()
            .with_group_id(name(group).into())
            .with_member_id(name(member))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        // What lies past the end counts until the next start.
        coordinator.offset_commit(8, request).await.topics[0].partitions[0].error_code
    }

    pub async fn committed(
        &self,
        coordinator: &Coordinator,
        group: &str,
        require_stable: bool,
    ) -> (i64, i16) {
        let topic = OffsetFetchRequestTopic::default().with_name(name("topic").into());
        let request = OffsetFetchRequest::default()
            .with_group_id(name(group).into())
            .with_topics(Some(vec![topic.with_partition_indexes(vec![0])]))
            .with_require_stable(require_stable);
        let found = coordinator.offset_fetch(7, request).await;
        let found = &found.topics[0].partitions[0];
        (found.committed_offset, found.error_code)
    }

    /// A transaction with the topic and the group in it.
    pub async fn begin(&self, coordinator: &Coordinator, timeout_ms: i32) -> Producer {
        let producer = self.ready(coordinator, timeout_ms).await;
        self.add(coordinator, producer).await;
        producer
    }

    pub async fn ready(&self, coordinator: &Coordinator, timeout_ms: i32) -> Producer {
        let ready = coordinator.init_producer_id(4, initialize("t", timeout_ms)).await;
        assert_eq!(ready.error_code, 0);
        Producer { id: ready.producer_id.0, epoch: ready.producer_epoch }
    }

    pub async fn add(&self, coordinator: &Coordinator, producer: Producer) {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(name("topic").into()).with_partitions(vec![0]);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(name("t").into())
            .with_v3_and_below_producer_id(producer.id.into())
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let added = coordinator.add_partitions_to_txn(3, add).await;
        let added = &added.results_by_topic_v3_and_below[0].results_by_partition[0];
        assert_eq!(added.partition_error_code, 0);
        let add = AddOffsetsToTxnRequest::default()
            .with_transactional_id(name("t").into())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_group_id(name("g").into());
        assert_eq!(coordinator.add_offsets_to_txn(3, add).await.error_code, 0);
    }

    pub fn produce(&self, coordinator: &Coordinator, producer: Producer) -> Bounds {
        let verified = coordinator.verify_transactional("t", producer.id, producer.epoch, "topic", 0);
        let log = self.log();
        log.append(batch(producer), clock::now_ms()).unwrap();
        drop(verified.map_err(|error| panic!("{error}")));
        log.bounds()
    }

    pub async fn hold(&self, coordinator: &Coordinator, producer: Producer, offset: i64) -> i16 {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name("topic").into());
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(name("t").into())
            .with_group_id(name("g").into())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        coordinator.txn_offset_commit(3, request).await.topics[0].partitions[0].error_code
    }

    pub async fn end(&self, coordinator: &Coordinator, producer: Producer, committed: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(name("t").into())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_committed(committed);
        coordinator.end_txn(3, request).await.error_code
    }
}

pub fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn initialize(id: &str, timeout_ms: i32) -> InitProducerIdRequest {
    let request = InitProducerIdRequest::default().with_transactional_id(Some(name(id).into()));
    request.with_transaction_timeout_ms(timeout_ms)
}

pub fn join_request(group: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(name("range"));
    JoinGroupRequest::default()
        .with_group_id(name(group).into())
        .with_member_id(name(member))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(name("consumer"))
        .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"s"))])
}

pub fn batch(producer: Producer) -> Bytes {
    let record = Record {
        transactional: producer.id >= 0,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: if producer.id >= 0 { 0 } else { -1 },
        timestamp: clock::now_ms(),
        key: None,
        value: Some(Bytes::from_static(b"v")),
        headers: Default::default(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).unwrap();
    bytes.freeze()
}
