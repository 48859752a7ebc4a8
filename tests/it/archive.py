"""Compares a Parquet archive with the windows of expected.csv, by DuckDB alone; exits with 1 and says what differs.
usage: archive.py FOLDER EXPECTED.CSV"""

import csv
import sys

import duckdb

# Marks that the tests produce later are no part of the reference log.
RECORDS = "where completed_at < timestamptz '2026-11-21 03:00:00+00'"
WINDOWS_S = {"5s": 5, "1m": 60, "5m": 300}
EXACT = ["query_count", "success_count", "failed_count", "min_duration_ms", "max_duration_ms"]
EXACT += ["p50_disc_ms", "p95_disc_ms", "p99_disc_ms"]
# The file's sums are rounded to three decimals.
SUM_ERROR_MS = 0.0006

WINDOW = """
select '{name}' as window, strftime(make_timestamp(epoch_us(completed_at) // {us} * {us}), '%Y-%m-%dT%H:%M:%SZ') as window_start,
  count(*) as query_count, count(*) filter (status = 'success') as success_count,
  count(*) filter (status = 'failed') as failed_count, sum(duration_ms) as sum_duration_ms,
  min(duration_ms) as min_duration_ms, max(duration_ms) as max_duration_ms, quantile_disc(duration_ms, 0.5) as p50_disc_ms,
  quantile_disc(duration_ms, 0.95) as p95_disc_ms, quantile_disc(duration_ms, 0.99) as p99_disc_ms
from archive group by workspace_id, service_id, 1, 2
"""


def as_number(text):
    return float(text) if text else None


def found_windows(database):
    for name, seconds in WINDOWS_S.items():
        cursor = database.execute(WINDOW.format(name=name, us=seconds * 1_000_000))
        columns = [column[0] for column in cursor.description]
        yield from (dict(zip(columns, row)) for row in cursor.fetchall())


def expected_windows(path):
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            numbers = {name: as_number(row[name]) for name in [*EXACT, "sum_duration_ms"]}
            yield {"window": row["window"], "window_start": row["window_start"], **numbers}


def comparable(windows):
    """The archive has ids where the file has names: windows are told apart by their contents."""
    key = lambda window: [window["window"], window["window_start"]] + [window[name] or -1 for name in EXACT]
    return sorted(windows, key=key)


def differ(found, expected):
    wrong = [name for name in ["window", "window_start", *EXACT] if found[name] != expected[name]]
    if abs((found["sum_duration_ms"] or 0) - (expected["sum_duration_ms"] or 0)) > SUM_ERROR_MS:
        wrong.append("sum_duration_ms")
    return wrong


def main(folder, expected_path):
    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    database.execute(f"create table archive as select * from {files} {RECORDS}")
    records, distinct = database.execute("select count(*), count(distinct (workspace_id, id)) from archive").fetchone()
    if records != distinct:
        sys.exit(f"{records - distinct} records are in the archive twice")
    misplaced = "workspace::varchar <> workspace_id::varchar or strftime(completed_at, '%Y-%m-%d %H') <> date || ' ' || hour"
    count = database.execute(f"select count(*) from archive where {misplaced}").fetchone()[0]
    if count:
        sys.exit(f"{count} records lie in another folder than their columns say")
    found, expected = comparable(found_windows(database)), comparable(expected_windows(expected_path))
    if len(found) != len(expected):
        sys.exit(f"{len(found)} windows instead of {len(expected)}, {records} records")
    for one, other in zip(found, expected):
        if wrong := differ(one, other):
            sys.exit(f"{wrong}: {one} instead of {other}")
    print(f"{records} records, {len(found)} windows: as expected")


main(*sys.argv[1:])
