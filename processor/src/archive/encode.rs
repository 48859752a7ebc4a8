//! A data file's bytes: Parquet, zstd, sorted by time, with page statistics, and bloom filters on what people filter by.
//! Pure: the same rows give the same bytes.

use super::{chunk::Rows, columns};
use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::SortingColumn,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

const ROW_GROUP_ROWS_MAX: usize = 128 * 1024;
/// Rows that are columns at a time: few enough to stay in the core's own memory.
pub const BATCH_ROWS: usize = 4 * 1024;
/// Columns that are looked up by exact value.
const BLOOM_COLUMNS: [&str; 2] = ["id", "service_id"];
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// Numbers of which each is little more than the one before, nearly: their differences are a fifth of them.
const GROWING_COLUMNS: [&str; 4] = ["started_at", "completed_at", "ingest_time", "source_offset"];
/// Nearly every value is another: a dictionary would be as long as the column.
const UNIQUE_COLUMNS: [&str; 2] = ["id", "duration_ms"];
const LEVEL: i32 = 3;
/// Of ids, which are as short with any: nothing repeats but the digits. Their lengths, all the same, stand apart.
const ID_LEVEL: i32 = 1;

/// `batches` have `rows` rows together.
pub fn encode(
    rows: usize,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Bytes, ParquetError> {
    let schema = columns::schema();
    let properties = properties(&schema, rows)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    for batch in batches {
        writer.write(&batch?)?;
    }
    Ok(Bytes::from(writer.into_inner()?))
}

fn properties(schema: &SchemaRef, rows: usize) -> Result<WriterProperties, ParquetError> {
    let index = schema.index_of("completed_at").expect("a column of the archive's schema");
    let by_time = SortingColumn {
        column_idx: i32::try_from(index).expect("the schema has a dozen columns"),
        descending: false,
        nulls_first: false,
    };
    let distinct_max = u64::try_from(rows.min(ROW_GROUP_ROWS_MAX)).unwrap_or(u64::MAX);
    let mut builder = WriterProperties::builder()
        .set_compression(zstd(LEVEL)?)
        .set_column_compression(ColumnPath::from("id"), zstd(ID_LEVEL)?)
        .set_column_encoding(ColumnPath::from("id"), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![by_time]));
    for column in BLOOM_COLUMNS {
        builder = builder
            .set_column_bloom_filter_fpp(ColumnPath::from(column), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(column), distinct_max);
    }
    for column in UNIQUE_COLUMNS.into_iter().chain(GROWING_COLUMNS) {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    for column in GROWING_COLUMNS {
        builder = builder.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    Ok(builder.build())
}

fn zstd(level: i32) -> Result<Compression, ParquetError> {
    ZstdLevel::try_new(level).map(Compression::ZSTD)
}

/// Rows of one partition as a file.
pub fn file(Rows { rows, texts }: Rows<'_>, partition: i32) -> Result<Bytes, ParquetError> {
    let batches = rows.chunks(BATCH_ROWS);
    encode(rows.len(), batches.map(|rows| columns::record_batch(Rows { rows, texts }, partition)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::chunk::{
            Row,
            tests::{metric, row},
        },
        *,
    };
    use crate::record::Texts;
    use arrow::{array::AsArray, datatypes::Float64Type};
    use millrace_schemas::QueryMetric;
    use parquet::{
        arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
        file::{properties::ReaderProperties, reader::FileReader, serialized_reader::SerializedFileReader},
    };

    fn metrics(count: i64) -> Vec<QueryMetric> {
        (0..count).map(|offset| metric(1, offset, offset)).collect()
    }

    fn rows(metrics: &[QueryMetric]) -> (Vec<Row>, Texts) {
        let mut texts = Texts::default();
        let rows = (0..).zip(metrics).map(|(offset, metric)| row(metric, offset, &mut texts)).collect();
        (rows, texts)
    }

    #[test]
    fn reads_back_what_was_written() {
        let mut metrics = metrics(3);
        metrics[1].duration_ms = None;
        metrics[1].tags.clear();
        metrics[2].error_message = Some("no \"x\"\n".to_owned());
        metrics[2].tags.push("é".to_owned());
        let (rows, texts) = rows(&metrics);
        let bytes = file(Rows { rows: &rows, texts: &texts }, 4).expect("encodes");
        let mut reader =
            ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|b| b.build()).expect("opens");
        let batch = reader.next().expect("a batch").expect("decodes");
        assert_eq!(batch.schema(), columns::schema());
        assert_eq!(batch.column(0).as_string::<i32>().value(1), metrics[1].id.to_string());
        let errors: Vec<_> = batch.column(7).as_string::<i32>().iter().collect();
        assert_eq!(errors, [None, None, Some("no \"x\"\n")]);
        let tags: Vec<Vec<String>> = batch
            .column(11)
            .as_list::<i32>()
            .iter()
            .map(|tags| {
                let tags = tags.expect("a list");
                tags.as_string::<i32>().iter().map(|tag| tag.expect("a tag").to_owned()).collect()
            })
            .collect();
        assert_eq!(tags, [vec!["a"], vec![], vec!["a", "é"]]);
        assert_eq!(batch, columns::record_batch(Rows { rows: &rows, texts: &texts }, 4).expect("columns"));
        assert_eq!(
            batch.column(5).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
            [Some(1.5), None, Some(1.5)]
        );
    }

    #[test]
    fn has_statistics_and_filters_and_bounded_row_groups() {
        let count = i64::try_from(ROW_GROUP_ROWS_MAX).expect("small") + 1;
        let metrics = metrics(count);
        let (rows, texts) = rows(&metrics);
        let bytes = file(Rows { rows: &rows, texts: &texts }, 0).expect("encodes");
        let options = parquet::file::serialized_reader::ReadOptionsBuilder::new()
            .with_reader_properties(ReaderProperties::builder().set_read_bloom_filter(true).build())
            .with_page_index()
            .build();
        let reader = SerializedFileReader::new_with_options(bytes, options).expect("opens");
        let metadata = reader.metadata();
        assert_eq!(metadata.num_row_groups(), 2);
        assert!(metadata.column_index().is_some(), "page statistics");
        assert_eq!(metadata.row_group(0).sorting_columns().map(Vec::len), Some(1));
        let group = reader.get_row_group(0).expect("a row group");
        let ids = group.get_column_bloom_filter(0).expect("a filter on id");
        assert!(ids.check(&metrics[0].id.to_string().as_str()));
        assert!(!ids.check(&"another"));
        assert!(group.get_column_bloom_filter(2).is_some() && group.get_column_bloom_filter(3).is_none());
    }
}
