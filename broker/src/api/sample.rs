//! Requests for tests, made from the layouts: every array has elements, every structure a tagged field.

use super::layout::{Field, Layout};
use bytes::{BufMut, Bytes, BytesMut};

/// What is written where a layout only says how long something is.
pub struct Sample {
    pub elements: usize,
    pub text: String,
    pub data: Bytes,
    pub tags: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Self { elements: 2, text: "name".into(), data: Bytes::from_static(b"data"), tags: true }
    }
}

/// Gives each offered API, its request and its response to a macro.
macro_rules! for_each_request {
    ($check:ident) => {
        $check!(ApiVersions, ApiVersionsRequest, ApiVersionsResponse);
        $check!(Produce, ProduceRequest, ProduceResponse);
        $check!(Fetch, FetchRequest, FetchResponse);
        $check!(ListOffsets, ListOffsetsRequest, ListOffsetsResponse);
        $check!(Metadata, MetadataRequest, MetadataResponse);
        $check!(OffsetCommit, OffsetCommitRequest, OffsetCommitResponse);
        $check!(OffsetFetch, OffsetFetchRequest, OffsetFetchResponse);
        $check!(FindCoordinator, FindCoordinatorRequest, FindCoordinatorResponse);
        $check!(JoinGroup, JoinGroupRequest, JoinGroupResponse);
        $check!(Heartbeat, HeartbeatRequest, HeartbeatResponse);
        $check!(LeaveGroup, LeaveGroupRequest, LeaveGroupResponse);
        $check!(SyncGroup, SyncGroupRequest, SyncGroupResponse);
        $check!(DescribeGroups, DescribeGroupsRequest, DescribeGroupsResponse);
        $check!(ListGroups, ListGroupsRequest, ListGroupsResponse);
        $check!(CreateTopics, CreateTopicsRequest, CreateTopicsResponse);
        $check!(DeleteTopics, DeleteTopicsRequest, DeleteTopicsResponse);
        $check!(DeleteRecords, DeleteRecordsRequest, DeleteRecordsResponse);
        $check!(InitProducerId, InitProducerIdRequest, InitProducerIdResponse);
        $check!(OffsetForLeaderEpoch, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse);
        $check!(AddPartitionsToTxn, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse);
        $check!(AddOffsetsToTxn, AddOffsetsToTxnRequest, AddOffsetsToTxnResponse);
        $check!(EndTxn, EndTxnRequest, EndTxnResponse);
        $check!(TxnOffsetCommit, TxnOffsetCommitRequest, TxnOffsetCommitResponse);
        $check!(DescribeConfigs, DescribeConfigsRequest, DescribeConfigsResponse);
        $check!(AlterConfigs, AlterConfigsRequest, AlterConfigsResponse);
        $check!(IncrementalAlterConfigs, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse);
        $check!(CreatePartitions, CreatePartitionsRequest, CreatePartitionsResponse);
        $check!(DeleteGroups, DeleteGroupsRequest, DeleteGroupsResponse);
        $check!(OffsetDelete, OffsetDeleteRequest, OffsetDeleteResponse);
        $check!(DescribeCluster, DescribeClusterRequest, DescribeClusterResponse);
        $check!(DescribeProducers, DescribeProducersRequest, DescribeProducersResponse);
        $check!(ListTransactions, ListTransactionsRequest, ListTransactionsResponse);
        $check!(DescribeTransactions, DescribeTransactionsRequest, DescribeTransactionsResponse);
        $check!(DescribeLogDirs, DescribeLogDirsRequest, DescribeLogDirsResponse);
        $check!(DescribeTopicPartitions, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse);
    };
}
pub(crate) use for_each_request;

impl Sample {
    pub fn body(&self, layout: &Layout, version: i16) -> Bytes {
        let mut writer =
            Writer { sample: self, to: BytesMut::new(), version, flexible: version >= layout.flexible };
        writer.fields(layout.fields);
        writer.tagged();
        writer.to.freeze()
    }
}

struct Writer<'a> {
    sample: &'a Sample,
    to: BytesMut,
    version: i16,
    flexible: bool,
}

impl Writer<'_> {
    fn fields(&mut self, fields: &[Field]) {
        fields.iter().for_each(|field| self.field(field));
    }

    fn field(&mut self, field: &Field) {
        match *field {
            Field::Fixed(size) => self.to.put_bytes(0, size),
            Field::Text if self.flexible => {
                self.compact(self.sample.text.len());
                self.to.put_slice(self.sample.text.as_bytes());
            }
            Field::Text => {
                self.to.put_i16(self.sample.text.len() as i16);
                self.to.put_slice(self.sample.text.as_bytes());
            }
            Field::Data => {
                self.count(self.sample.data.len());
                self.to.put_slice(&self.sample.data);
            }
            Field::List(element) => self.array(|writer| writer.field(element)),
            Field::Structs(fields) => self.array(|writer| writer.structure(fields)),
            Field::Maybe(fields) => {
                self.to.put_u8(1);
                self.structure(fields);
            }
            Field::Struct(fields) => self.structure(fields),
            Field::Since(first, field) if self.version >= first => self.field(field),
            Field::Until(last, field) if self.version <= last => self.field(field),
            Field::Between(first, last, field) if (first..=last).contains(&self.version) => self.field(field),
            Field::Since(..) | Field::Until(..) | Field::Between(..) => {}
        }
    }

    fn structure(&mut self, fields: &[Field]) {
        self.fields(fields);
        self.tagged();
    }

    fn array(&mut self, element: impl Fn(&mut Self)) {
        self.count(self.sample.elements);
        (0..self.sample.elements).for_each(|_| element(self));
    }

    fn count(&mut self, count: usize) {
        if self.flexible { self.compact(count) } else { self.to.put_i32(count as i32) }
    }

    /// Of less than 128 with its one.
    fn compact(&mut self, length: usize) {
        let mut value = length + 1;
        while value >= 0x80 {
            self.to.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.to.put_u8(value as u8);
    }

    fn tagged(&mut self) {
        if self.flexible && self.sample.tags {
            self.to.put_slice(&[1, 99, 2, 7, 7]);
        } else if self.flexible {
            self.to.put_u8(0);
        }
    }
}
