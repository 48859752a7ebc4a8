"""Judges a phase of the chaos suite by DuckDB alone: what should have become of every record that the log has is computed
anew from the log's bytes, and compared with windows, archive and dead letters. Exits with 1 and says what differs.
usage: audit.py FOLDER"""

import json
import pathlib
import sys

import duckdb

EXAMPLES = 8
FUTURE_SKEW_US = 300_000_000
SKETCH_ERROR = 0.0101
COUNTS = ["query_count", "success_count", "failed_count", "timeout_count", "cancelled_count", "duration_count"]
COUNTS += ["total_rows_affected"]

TABLES = {
    "raw": "{partition: 'INTEGER', 'offset': 'BIGINT', time_ms: 'BIGINT', bytes: 'BIGINT', text: 'VARCHAR', hex: 'VARCHAR',"
    " edge: 'BOOLEAN'}",
    "letters": "{reason: 'VARCHAR', partition: 'INTEGER', 'offset': 'BIGINT', bytes: 'BIGINT', text: 'VARCHAR', hex: 'VARCHAR', letter: 'BIGINT[]'}",
    "acknowledged": "{identity: 'STRUCT(workspace_id UUID, id UUID)', place: 'BIGINT[]', bytes: 'BIGINT', keyed: 'BOOLEAN'}",
    "found": "{workspace_id: 'UUID', service_id: 'UUID', window_s: 'BIGINT', bucket: 'VARCHAR', query_count: 'BIGINT',"
    " success_count: 'BIGINT', failed_count: 'BIGINT', timeout_count: 'BIGINT', cancelled_count: 'BIGINT',"
    " duration_count: 'BIGINT', total_rows_affected: 'BIGINT', min_duration_ms: 'DOUBLE', max_duration_ms: 'DOUBLE',"
    " sum_duration_ms: 'DOUBLE', p50_duration_ms: 'DOUBLE', p95_duration_ms: 'DOUBLE', p99_duration_ms: 'DOUBLE'}",
    "ledger": "{workspace_id: 'UUID', minute: 'VARCHAR', accepted: 'BIGINT', from_edge: 'BIGINT', read: 'BIGINT', counted: 'BIGINT',"
    " running: 'BIGINT', duplicate: 'BIGINT', late: 'BIGINT', backfilled: 'BIGINT', archived: 'BIGINT', balanced: 'BOOLEAN',"
    " dead_lettered: 'STRUCT(invalid BIGINT, unknown_workspace BIGINT, future BIGINT)'}",
}
FILES = {"raw": "raw", "letters": "letters", "acknowledged": "acknowledged", "found": "rows", "ledger": "ledger"}

# What can be read of a record: nulls where it is none. A table of its own, as only valid JSON may be looked into.
JUDGE = """
create table objects as select * from raw where json_valid(text) and json_type(text) = 'OBJECT';

create table valid as select * from (
  select partition, "offset", time_ms, try_cast(text ->> '$.id' as uuid) as id,
    try_cast(text ->> '$.workspace_id' as uuid) as workspace_id, try_cast(text ->> '$.service_id' as uuid) as service_id,
    text ->> '$.status' as status, try_cast(text ->> '$.duration_ms' as double) as duration_ms,
    try_cast(text ->> '$.rows_affected' as bigint) as rows_affected, text ->> '$.query_text' as query_text,
    epoch_us(try_cast(text ->> '$.started_at' as timestamptz)) as started_us,
    epoch_us(try_cast(text ->> '$.completed_at' as timestamptz)) as completed_us,
    json_type(text, '$.duration_ms') as duration_type
  from objects)
where id is not null and workspace_id is not null and service_id is not null and query_text is not null
  and status in ('running', 'success', 'failed', 'timeout', 'cancelled') and duration_type is not null
  and (duration_type = 'NULL' or duration_ms between 0 and 1e12) and started_us is not null and completed_us is not null;

create table judged as
with ruled as (
  select raw.partition, raw."offset", case
      when valid.id is null then 'invalid'
      when workspaces.created_us is null or workspaces.created_us > raw.time_ms * 1000 then 'unknown_workspace'
      when completed_us > raw.time_ms * 1000 + $skew then 'future'
      else 'accepted' end as rule
  from raw left join valid using (partition, "offset") left join workspaces using (workspace_id)
), remembered as (
  select partition, "offset", "offset" // $generation as generation, lag("offset" // $generation)
      over (partition by partition, workspace_id, id, status = 'running' order by "offset") as last_generation
  from ruled join valid using (partition, "offset") where rule = 'accepted'
)
select ruled.partition, ruled."offset", case
    when rule <> 'accepted' then rule
    when last_generation >= generation - 1 then 'duplicate'
    else 'counted' end as verdict
from ruled left join remembered using (partition, "offset");

-- Whose a record is decides only its workspace_id, where it can be read at all.
create table expected_ledger as
select workspaces.workspace_id, strftime(make_timestamp(time_ms // 60000 * 60000000), '%Y-%m-%dT%H:%M:%SZ') as minute,
  count(*) filter (edge) as from_edge, count(*) as read,
  count(*) filter (verdict = 'counted' and status is distinct from 'running') as counted,
  count(*) filter (verdict = 'counted' and status = 'running') as running, count(*) filter (verdict = 'duplicate') as duplicate,
  count(*) filter (verdict = 'invalid') as invalid, count(*) filter (verdict = 'unknown_workspace') as unknown_workspace,
  count(*) filter (verdict = 'future') as future, count(*) filter (verdict = 'counted') as archived
from raw join judged using (partition, "offset") left join (select partition, "offset", status from valid) using (partition, "offset")
left join (select partition, "offset", try_cast(text ->> '$.workspace_id' as uuid) as named from objects) using (partition, "offset")
left join workspaces on workspaces.workspace_id = named
group by 1, 2;

create table accepted as select valid.* from valid join judged using (partition, "offset") where verdict = 'counted';

create table expected as
select workspace_id, service_id, window_s,
  strftime(make_timestamp(completed_us // (window_s * 1000000) * window_s * 1000000), '%Y-%m-%dT%H:%M:%SZ') as bucket,
  count(*) as query_count, count(*) filter (status = 'success') as success_count,
  count(*) filter (status = 'failed') as failed_count, count(*) filter (status = 'timeout') as timeout_count,
  count(*) filter (status = 'cancelled') as cancelled_count, count(duration_ms) as duration_count,
  sum(rows_affected)::bigint as total_rows_affected, min(duration_ms) as min_duration_ms, max(duration_ms) as max_duration_ms,
  sum(duration_ms) as sum_duration_ms, quantile_disc(duration_ms, 0.5) as p50_duration_ms,
  quantile_disc(duration_ms, 0.95) as p95_duration_ms, quantile_disc(duration_ms, 0.99) as p99_duration_ms
from accepted, (select unnest([5, 60, 300])::bigint as window_s) where status <> 'running' group by all;
"""

WINDOW = "workspace_id, service_id, window_s, bucket"
PLACE = 'partition, "offset"'
SAME_CONTENT = "one.bytes = other.bytes and one.text is not distinct from other.text and one.hex is not distinct from other.hex"
ARCHIVED_ALIKE = " and ".join(
    f"archived.{column} is not distinct from accepted.{column}"
    for column in ["id", "workspace_id", "service_id", "status", "duration_ms", "rows_affected", "query_text", "completed_us"]
)

SAME_MINUTE = "one.workspace_id is not distinct from other.workspace_id and one.minute = other.minute"
# A record that came before its workspace is the workspace's if that exists when the record is judged, else nobody's.
SAME_LEDGER = " and ".join(
    [f"one.{name} = other.{name}" for name in ["from_edge", "counted", "running", "duplicate", "archived"]]
    + [f"one.dead_lettered.{reason} = other.{reason}" for reason in ["invalid", "future"]]
    + ["one.read - one.dead_lettered.unknown_workspace = other.read - other.unknown_workspace"]
)

# What must not be: a name, and the query that finds it.
CHECKS = {
    "acknowledged records that the log does not have where it said": f"""
      select place, acknowledged.bytes, identity from acknowledged
      left join raw on raw.partition = place[1] and raw."offset" = place[2]
      left join valid on valid.partition = place[1] and valid."offset" = place[2]
      where place is not null and (raw.bytes is distinct from acknowledged.bytes
        or identity is not null and (valid.id is distinct from identity.id or valid.workspace_id is distinct from identity.workspace_id))""",
    "acknowledged records that the log does not have": """
      select distinct identity from acknowledged anti join valid
      on valid.id = identity.id and valid.workspace_id = identity.workspace_id where identity is not null""",
    "keyed records that went to more than one partition": """
      select identity, count(distinct partition) from (select distinct identity from acknowledged where keyed and identity is not null)
      join valid on valid.id = identity.id and valid.workspace_id = identity.workspace_id group by 1 having count(distinct partition) > 1""",
    "dead letters that should not be": f"select reason, {PLACE}, text from letters anti join dead using ({PLACE}, reason)",
    "dead letters that are missing": f"select reason, {PLACE}, raw.text from dead join raw using ({PLACE}) anti join letters using ({PLACE}, reason)",
    "records with more than one dead letter": f"select {PLACE}, count(*), list(letter) from letters group by {PLACE} having count(*) > 1",
    "dead letters with other bytes": f"""
      select one.partition, one."offset", one.text, other.text from letters as one join raw as other using ({PLACE})
      where not ({SAME_CONTENT})""",
    "records that are archived more than once": f"""
      select {PLACE}, count(*), list(filename) from archived group by {PLACE} having count(*) > 1""",
    "records that are not archived": f"select {PLACE}, workspace_id, id, status from accepted anti join archived using ({PLACE})",
    "archived records that do not count": f"""
      select {PLACE}, verdict, workspace_id, id, filename from archived left join judged using ({PLACE})
      anti join accepted using ({PLACE})""",
    "archived records with another content": f"""
      select archived.* exclude (query_text) from archived join accepted using ({PLACE}) where not ({ARCHIVED_ALIKE})""",
    "windows that are missing": f"select expected.* from expected anti join found using ({WINDOW})",
    "windows that should not be": f"select found.* from found anti join expected using ({WINDOW})",
    "minutes of the ledger that are missing": f"""
      select one.* from expected_ledger as one anti join ledger as other on {SAME_MINUTE} where read > unknown_workspace""",
    "minutes of the ledger that should not be": f"""
      select one.* from ledger as one anti join expected_ledger as other on {SAME_MINUTE}
      where read > dead_lettered.unknown_workspace""",
    "minutes of the ledger with other counts": f"""
      select one, other from ledger as one join expected_ledger as other on {SAME_MINUTE} where not ({SAME_LEDGER})""",
    "minutes of the ledger with other records of unknown workspaces": """
      select one, other from (select minute, sum(dead_lettered.unknown_workspace) as unknown from ledger group by 1) as one
      join (select minute, sum(unknown_workspace) as unknown from expected_ledger group by 1) as other using (minute)
      where one.unknown <> other.unknown""",
    "minutes of the ledger that do not balance": """
      select * from ledger where not balanced or accepted > from_edge""",
    # Which minute they stand at is not exact.
    "workspaces of the ledger with more late records than counted ones": """
      select workspace_id, sum(late), sum(backfilled), sum(counted) from ledger group by 1
      having sum(late) + sum(backfilled) > sum(counted)""",
    "windows told twice": f"select {WINDOW}, count(*) from found group by all having count(*) > 1",
}


def compare_windows():
    for column in [*COUNTS, "min_duration_ms", "max_duration_ms"]:
        yield column, f"found.{column} is distinct from expected.{column}"
    yield "sum_duration_ms", different("sum_duration_ms", "1e-9 * abs(expected.sum_duration_ms) + 1e-9")
    for column in ["p50_duration_ms", "p95_duration_ms", "p99_duration_ms"]:
        yield column, different(column, f"{SKETCH_ERROR} * expected.{column} + 1e-9")


def different(column, tolerance):
    found, expected = f"found.{column}", f"expected.{column}"
    return f"({found} is null) <> ({expected} is null) or abs({found} - {expected}) > {tolerance}"


def load(database, folder, case):
    for table, columns in TABLES.items():
        file = folder / f"{FILES[table]}.ndjson"
        source = f"read_json('{file}', format = 'newline_delimited', columns = {columns})"
        database.execute(f"create table {table} as select * from {source}")
    database.execute("create table workspaces (workspace_id uuid, created_us bigint)")
    database.executemany("insert into workspaces values (?, ?)", [list(pair) for pair in case["workspaces"].items()])
    generation, skew = str(case["dedupe_records"]), str(FUTURE_SKEW_US)
    database.execute(JUDGE.replace("$generation", generation).replace("$skew", skew))
    database.execute("create table dead as select *, verdict as reason from judged where verdict not in ('counted', 'duplicate')")
    files = f"read_parquet('{case['archive']}/**/*.parquet', hive_partitioning = false, filename = true)"
    database.execute(f"""create table archived as select source_partition as partition, source_offset as "offset",
        id::uuid as id, workspace_id::uuid as workspace_id, service_id::uuid as service_id, status, duration_ms, rows_affected,
        query_text, epoch_us(completed_at) as completed_us, filename from {files}""")


def findings(database):
    for name, query in CHECKS.items():
        yield name, query
    for column, wrong in compare_windows():
        shown = f"{WINDOW}, found.{column} as found, expected.{column} as expected"
        yield f"windows with another {column}", f"select {shown} from found join expected using ({WINDOW}) where {wrong}"


def summary(database):
    verdicts = database.execute("select verdict, count(*) from judged group by 1 order by 1").fetchall()
    count = lambda table: database.execute(f"select count(*) from {table}").fetchone()[0]
    told = ", ".join(f"{number} {verdict}" for verdict, number in verdicts)
    return f"{count('raw')} records: {told}; {count('expected')} windows, {count('archived')} archived, {count('letters')} letters, {count('ledger')} minutes in the ledger"


def main(folder):
    folder = pathlib.Path(folder)
    case = json.loads((folder / "case.json").read_text())
    database = duckdb.connect(str(folder / "audit.duckdb"))
    database.execute("set timezone = 'UTC'")
    load(database, folder, case)
    wrong = []
    for name, query in findings(database):
        rows = database.execute(query).fetchall()
        if rows:
            wrong.append(f"{len(rows)} {name}, such as")
            wrong += [f"  {tuple(map(str, row))}" for row in rows[:EXAMPLES]]
    if wrong:
        sys.exit("\n".join([summary(database), *wrong]))
    print(summary(database))


main(*sys.argv[1:])
