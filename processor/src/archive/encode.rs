//! A data file's bytes: Parquet, zstd, sorted by time, with page statistics, and bloom filters on what people filter by.
//! Pure: the same rows give the same bytes.

use super::columns;
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::SortingColumn,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

const ROW_GROUP_ROWS_MAX: usize = 128 * 1024;
/// Columns that are looked up by exact value.
const BLOOM_COLUMNS: [&str; 2] = ["id", "service_id"];
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// Every value is another: a dictionary would only be given up half-way.
const UNIQUE_COLUMNS: [&str; 2] = ["id", "source_offset"];

pub fn encode(batch: &RecordBatch) -> Result<Bytes, ParquetError> {
    let properties = properties(&batch.schema(), batch.num_rows())?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(batch)?;
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
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![by_time]));
    for column in BLOOM_COLUMNS {
        builder = builder
            .set_column_bloom_filter_fpp(ColumnPath::from(column), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(column), distinct_max);
    }
    for column in UNIQUE_COLUMNS {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    Ok(builder.build())
}

/// Rows of one partition as a file.
pub fn file(rows: &[super::chunk::Row], partition: i32) -> Result<Bytes, ParquetError> {
    encode(&columns::record_batch(rows, partition)?)
}

#[cfg(test)]
mod tests {
    use super::{
        super::chunk::{Row, tests::row},
        *,
    };
    use arrow::{array::AsArray, datatypes::Float64Type};
    use parquet::{
        arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
        file::{properties::ReaderProperties, reader::FileReader, serialized_reader::SerializedFileReader},
    };

    fn rows(count: i64) -> Vec<Row> {
        (0..count).map(|offset| row(1, offset, offset)).collect()
    }

    #[test]
    fn reads_back_what_was_written() {
        let mut rows = rows(3);
        rows[1].metric.duration_ms = None;
        rows[1].metric.tags.clear();
        rows[2].metric.error_message = Some("no".to_owned());
        let bytes = file(&rows, 4).expect("encodes");
        let mut reader =
            ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|b| b.build()).expect("opens");
        let batch = reader.next().expect("a batch").expect("decodes");
        assert_eq!(batch.schema(), columns::schema());
        assert_eq!(batch, columns::record_batch(&rows, 4).expect("columns"));
        assert_eq!(
            batch.column(5).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
            [Some(1.5), None, Some(1.5)]
        );
    }

    #[test]
    fn has_statistics_and_filters_and_bounded_row_groups() {
        let count = i64::try_from(ROW_GROUP_ROWS_MAX).expect("small") + 1;
        let bytes = file(&rows(count), 0).expect("encodes");
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
        assert!(ids.check(&rows(1)[0].metric.id.to_string().as_str()));
        assert!(!ids.check(&"another"));
        assert!(group.get_column_bloom_filter(2).is_some() && group.get_column_bloom_filter(3).is_none());
    }
}
