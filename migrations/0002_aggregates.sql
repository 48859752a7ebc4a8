-- Window rows, a table for each window size because each has its own retention. They are derived: the log and the
-- archive can rebuild them.

CREATE TABLE aggregates_5s (
    workspace_id        uuid NOT NULL,
    service_id          uuid NOT NULL,
    window_start        timestamptz NOT NULL,
    query_count         bigint NOT NULL,
    success_count       bigint NOT NULL,
    failed_count        bigint NOT NULL,
    timeout_count       bigint NOT NULL,
    cancelled_count     bigint NOT NULL,
    total_rows_affected bigint,
    duration_count      bigint NOT NULL,
    sum_duration_ms     double precision,
    min_duration_ms     double precision,
    max_duration_ms     double precision,
    p50_duration_ms     double precision,
    p95_duration_ms     double precision,
    p99_duration_ms     double precision,
    revision            bigint NOT NULL,
    is_final            boolean NOT NULL,
    late_count          bigint NOT NULL,
    sketch              bytea NOT NULL,  -- mergeable: late records of any age are added to it
    PRIMARY KEY (workspace_id, window_start, service_id)
);
CREATE TABLE aggregates_1m (LIKE aggregates_5s INCLUDING ALL);
CREATE TABLE aggregates_5m (LIKE aggregates_5s INCLUDING ALL);

-- Where TimescaleDB is, the tables become hypertables, so that retention drops chunks instead of deleting rows.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM create_hypertable('aggregates_5s', 'window_start', chunk_time_interval => interval '1 day', create_default_indexes => false);
        PERFORM create_hypertable('aggregates_1m', 'window_start', chunk_time_interval => interval '7 days', create_default_indexes => false);
        PERFORM create_hypertable('aggregates_5m', 'window_start', chunk_time_interval => interval '30 days', create_default_indexes => false);
    END IF;
END
$$;

-- How far a sink has stored a topic, written in the same transaction as the rows: the truth about the sink.
CREATE TABLE sink_offsets (
    sink        text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (sink, topic, partition)
);
