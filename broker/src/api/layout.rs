//! How the bytes of every offered request lie, and which versions are offered. Only what `guard` needs to walk over a
//! request: sizes and counts, no names and no meanings.

use Field::{Between, Data, Fixed, List, Maybe, Since, Structs, Text, Until};
use kafka_protocol::messages::ApiKey;

/// One field, or a field that only some versions have.
#[derive(Clone, Copy)]
pub enum Field {
    /// So many bytes.
    Fixed(usize),
    Text,
    Data,
    /// An array of plain values.
    List(&'static Field),
    /// An array of structures.
    Structs(&'static [Field]),
    /// A structure that may be absent.
    Maybe(&'static [Field]),
    /// A structure in a tagged field.
    Struct(&'static [Field]),
    Since(i16, &'static Field),
    Until(i16, &'static Field),
    Between(i16, i16, &'static Field),
}

/// A request: the versions that are offered, the first with compact lengths and tagged fields, and what is in it.
#[derive(Clone, Copy)]
pub struct Layout {
    pub min: i16,
    pub max: i16,
    pub flexible: i16,
    pub fields: &'static [Field],
    /// Tagged fields of the request itself that the decoder knows, and so reads by their own lengths.
    pub tags: &'static [(u32, Field)],
}

/// No offered version is flexible.
const NEVER: i16 = i16::MAX;

const FETCH_TAGS: &[(u32, Field)] = &[(0, Text), (1, Field::Struct(&[Fixed(4), Fixed(8)]))];

impl Layout {
    /// None: the API is not offered.
    pub fn of(key: ApiKey) -> Option<Self> {
        let (min, max, flexible, fields) =
            records(key).or_else(|| transactions(key)).or_else(|| groups(key)).or_else(|| admin(key))?;
        let tags = if key == ApiKey::Fetch { FETCH_TAGS } else { &[] };
        Some(Self { min, max, flexible, fields, tags })
    }

    /// All that are offered, by their number.
    pub fn offered() -> impl Iterator<Item = (ApiKey, Self)> {
        ApiKey::iter().filter_map(|key| Self::of(key).map(|layout| (key, layout)))
    }
}

type Row = (i16, i16, i16, &'static [Field]);

/// Clients that write and read records.
fn records(key: ApiKey) -> Option<Row> {
    let row: Row = match key {
        ApiKey::ApiVersions => (0, 4, 3, &[Since(3, &Text), Since(3, &Text)]),
        ApiKey::Produce => {
            (3, 11, 9, &[Text, Fixed(2), Fixed(4), Structs(&[Text, Structs(&[Fixed(4), Data])])])
        }
        ApiKey::Fetch => (
            4,
            16,
            12,
            &[
                Until(14, &Fixed(4)),
                Fixed(4),
                Fixed(4),
                Fixed(4),
                Fixed(1),
                Since(7, &Fixed(4)),
                Since(7, &Fixed(4)),
                Structs(&[
                    Until(12, &Text),
                    Since(13, &Fixed(16)),
                    Structs(&[
                        Fixed(4),
                        Since(9, &Fixed(4)),
                        Fixed(8),
                        Since(12, &Fixed(4)),
                        Since(5, &Fixed(8)),
                        Fixed(4),
                    ]),
                ]),
                Since(7, &Structs(&[Until(12, &Text), Since(13, &Fixed(16)), List(&Fixed(4))])),
                Since(11, &Text),
            ],
        ),
        ApiKey::ListOffsets => (
            1,
            8,
            6,
            &[
                Fixed(4),
                Since(2, &Fixed(1)),
                Structs(&[Text, Structs(&[Fixed(4), Since(4, &Fixed(4)), Fixed(8)])]),
            ],
        ),
        ApiKey::Metadata => (
            0,
            12,
            9,
            &[
                Structs(&[Since(10, &Fixed(16)), Text]),
                Since(4, &Fixed(1)),
                Between(8, 10, &Fixed(1)),
                Since(8, &Fixed(1)),
            ],
        ),
        ApiKey::OffsetForLeaderEpoch => {
            (2, 4, 4, &[Since(3, &Fixed(4)), Structs(&[Text, Structs(&[Fixed(4), Fixed(4), Fixed(4)])])])
        }
        ApiKey::DeleteRecords => (0, 2, 2, &[Structs(&[Text, Structs(&[Fixed(4), Fixed(8)])]), Fixed(4)]),
        _ => return None,
    };
    Some(row)
}

/// Transactions.
fn transactions(key: ApiKey) -> Option<Row> {
    let row: Row = match key {
        ApiKey::InitProducerId => (0, 4, 2, &[Text, Fixed(4), Since(3, &Fixed(8)), Since(3, &Fixed(2))]),
        ApiKey::AddPartitionsToTxn => {
            (0, 3, 3, &[Text, Fixed(8), Fixed(2), Structs(&[Text, List(&Fixed(4))])])
        }
        ApiKey::AddOffsetsToTxn => (0, 3, 3, &[Text, Fixed(8), Fixed(2), Text]),
        ApiKey::EndTxn => (0, 3, 3, &[Text, Fixed(8), Fixed(2), Fixed(1)]),
        ApiKey::TxnOffsetCommit => (
            0,
            3,
            3,
            &[
                Text,
                Text,
                Fixed(8),
                Fixed(2),
                Since(3, &Fixed(4)),
                Since(3, &Text),
                Since(3, &Text),
                Structs(&[Text, Structs(&[Fixed(4), Fixed(8), Since(2, &Fixed(4)), Text])]),
            ],
        ),
        _ => return None,
    };
    Some(row)
}

/// Consumer groups.
fn groups(key: ApiKey) -> Option<Row> {
    let row: Row = match key {
        ApiKey::OffsetCommit => (
            2,
            8,
            8,
            &[
                Text,
                Fixed(4),
                Text,
                Since(7, &Text),
                Until(4, &Fixed(8)),
                Structs(&[Text, Structs(&[Fixed(4), Fixed(8), Since(6, &Fixed(4)), Text])]),
            ],
        ),
        ApiKey::OffsetFetch => (
            1,
            8,
            6,
            &[
                Until(7, &Text),
                Until(7, &Structs(&[Text, List(&Fixed(4))])),
                Since(8, &Structs(&[Text, Structs(&[Text, List(&Fixed(4))])])),
                Since(7, &Fixed(1)),
            ],
        ),
        ApiKey::FindCoordinator => (0, 4, 3, &[Until(3, &Text), Since(1, &Fixed(1)), Since(4, &List(&Text))]),
        ApiKey::JoinGroup => (
            0,
            9,
            6,
            &[
                Text,
                Fixed(4),
                Since(1, &Fixed(4)),
                Text,
                Since(5, &Text),
                Text,
                Structs(&[Text, Data]),
                Since(8, &Text),
            ],
        ),
        ApiKey::Heartbeat => (0, 4, 4, &[Text, Fixed(4), Text, Since(3, &Text)]),
        ApiKey::LeaveGroup => {
            (0, 5, 4, &[Text, Until(2, &Text), Since(3, &Structs(&[Text, Text, Since(5, &Text)]))])
        }
        ApiKey::SyncGroup => (
            0,
            5,
            4,
            &[
                Text,
                Fixed(4),
                Text,
                Since(3, &Text),
                Since(5, &Text),
                Since(5, &Text),
                Structs(&[Text, Data]),
            ],
        ),
        ApiKey::DescribeGroups => (0, 5, 5, &[List(&Text), Since(3, &Fixed(1))]),
        ApiKey::ListGroups => (0, 5, 3, &[Since(4, &List(&Text)), Since(5, &List(&Text))]),
        ApiKey::DeleteGroups => (0, 2, 2, &[List(&Text)]),
        ApiKey::OffsetDelete => (0, 0, NEVER, &[Text, Structs(&[Text, Structs(&[Fixed(4)])])]),
        _ => return None,
    };
    Some(row)
}

/// Administration.
fn admin(key: ApiKey) -> Option<Row> {
    let row: Row = match key {
        ApiKey::CreateTopics => (
            2,
            7,
            5,
            &[
                Structs(&[
                    Text,
                    Fixed(4),
                    Fixed(2),
                    Structs(&[Fixed(4), List(&Fixed(4))]),
                    Structs(&[Text, Text]),
                ]),
                Fixed(4),
                Fixed(1),
            ],
        ),
        ApiKey::DeleteTopics => {
            (1, 6, 4, &[Since(6, &Structs(&[Text, Fixed(16)])), Until(5, &List(&Text)), Fixed(4)])
        }
        ApiKey::DescribeConfigs => {
            (1, 4, 4, &[Structs(&[Fixed(1), Text, List(&Text)]), Fixed(1), Since(3, &Fixed(1))])
        }
        ApiKey::AlterConfigs => (0, 2, 2, &[Structs(&[Fixed(1), Text, Structs(&[Text, Text])]), Fixed(1)]),
        ApiKey::IncrementalAlterConfigs => {
            (0, 1, 1, &[Structs(&[Fixed(1), Text, Structs(&[Text, Fixed(1), Text])]), Fixed(1)])
        }
        ApiKey::CreatePartitions => {
            (0, 3, 2, &[Structs(&[Text, Fixed(4), Structs(&[List(&Fixed(4))])]), Fixed(4), Fixed(1)])
        }
        ApiKey::DescribeCluster => (0, 1, 0, &[Fixed(1), Since(1, &Fixed(1))]),
        ApiKey::DescribeProducers => (0, 0, 0, &[Structs(&[Text, List(&Fixed(4))])]),
        ApiKey::ListTransactions => (0, 1, 0, &[List(&Text), List(&Fixed(8)), Since(1, &Fixed(8))]),
        ApiKey::DescribeTransactions => (0, 0, 0, &[List(&Text)]),
        ApiKey::DescribeLogDirs => (1, 4, 2, &[Structs(&[Text, List(&Fixed(4))])]),
        ApiKey::DescribeTopicPartitions => (0, 0, 0, &[Structs(&[Text]), Fixed(4), Maybe(&[Text, Fixed(4)])]),
        _ => return None,
    };
    Some(row)
}
