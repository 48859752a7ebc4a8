-- The ledger: what became of the records, by workspace and minute of arrival (the log's append time). It is derived from
-- the ledger topic. Plain tables also with TimescaleDB: a row a workspace and minute, of which old ones are deleted.

-- The nil UUID stands for the records whose workspace can't be read or does not exist.
CREATE TABLE ledger_minutes (
    workspace_id      uuid NOT NULL,
    minute            timestamptz NOT NULL,
    from_edge         bigint NOT NULL DEFAULT 0,
    read              bigint NOT NULL DEFAULT 0,
    counted           bigint NOT NULL DEFAULT 0,
    running           bigint NOT NULL DEFAULT 0,
    duplicate         bigint NOT NULL DEFAULT 0,
    invalid           bigint NOT NULL DEFAULT 0,  -- this and the next two: dead letters
    unknown_workspace bigint NOT NULL DEFAULT 0,
    future            bigint NOT NULL DEFAULT 0,
    late              bigint NOT NULL DEFAULT 0,
    backfilled        bigint NOT NULL DEFAULT 0,
    archived          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace_id, minute)
);
CREATE INDEX ledger_minutes_by_minute ON ledger_minutes (minute);

-- What each run of an edge says that it has had acknowledged; the sum over them is what the edges accepted.
CREATE TABLE ledger_edges (
    workspace_id uuid NOT NULL,
    minute       timestamptz NOT NULL,
    instance     uuid NOT NULL,
    accepted     bigint NOT NULL,
    PRIMARY KEY (workspace_id, minute, instance)
);
CREATE INDEX ledger_edges_by_minute ON ledger_edges (minute);

-- How far each stage's counts go, by partition of the topic that it reads; written with the counts.
CREATE TABLE ledger_positions (
    stage       text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    arrived     timestamptz,  -- when the newest record before next_offset came
    since       timestamptz,  -- minutes that begin before it are not wholly in the ledger; null: it has all from offset 0 on
    PRIMARY KEY (stage, topic, partition)
);

-- Both together, and whether a row's numbers agree; they can't before the log behind the minute is processed. What is
-- duplicate or a dead letter is not archived.
CREATE VIEW ledger AS
SELECT *,
    read = counted + running + duplicate + invalid + unknown_workspace + future
        AND accepted <= from_edge AND from_edge <= read AS adds_up,
    archived = counted + running AS all_archived
FROM (
    SELECT workspace_id, minute, sum(accepted)::bigint AS accepted, sum(from_edge)::bigint AS from_edge,
        sum(read)::bigint AS read, sum(counted)::bigint AS counted, sum(running)::bigint AS running,
        sum(duplicate)::bigint AS duplicate, sum(invalid)::bigint AS invalid,
        sum(unknown_workspace)::bigint AS unknown_workspace, sum(future)::bigint AS future,
        sum(late)::bigint AS late, sum(backfilled)::bigint AS backfilled, sum(archived)::bigint AS archived
    FROM (
        SELECT workspace_id, minute, 0 AS accepted, from_edge, read, counted, running, duplicate, invalid,
            unknown_workspace, future, late, backfilled, archived FROM ledger_minutes
        UNION ALL
        SELECT workspace_id, minute, accepted, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM ledger_edges
    ) AS told
    GROUP BY workspace_id, minute
) AS summed;
