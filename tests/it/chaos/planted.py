"""Plants one error after the other into a small case that is right, and expects audit.py to name each.
usage: planted.py FOLDER"""

import json
import pathlib
import subprocess
import sys
import uuid

import duckdb

AUDIT = pathlib.Path(__file__).with_name("audit.py")
WORKSPACE, SERVICE = str(uuid.UUID(int=7)), str(uuid.UUID(int=9))
ARRIVED_MS = 1_795_255_560_000  # 2026-11-21T10:06:00Z


def metric(number, **changes):
    record = {"id": str(uuid.UUID(int=number)), "workspace_id": WORKSPACE, "service_id": SERVICE, "query_text": "select 1"}
    record |= {"status": "success", "duration_ms": number + 0.5, "rows_affected": number}
    record |= {"started_at": "2026-11-21T10:05:00Z", "completed_at": f"2026-11-21T10:05:{number:02}.000001Z"}
    return json.dumps(record | changes)


def right_case():
    """Twenty counted records, one that still runs, a repeat, and five dead letters."""
    texts = [metric(number) for number in range(20)] + [metric(30, status="running"), metric(3)]
    bad = [("invalid", "garbage"), ("invalid", None), ("invalid", f"[{metric(40)}]")]
    bad += [("unknown_workspace", metric(41, workspace_id=str(uuid.UUID(int=8))))]
    bad += [("future", metric(42, completed_at="2026-11-21T10:11:00.000001Z"))]
    line = lambda offset, text: {"partition": 0, "offset": offset, "bytes": -1 if text is None else len(text), "text": text}
    raw = [line(offset, text) | {"time_ms": ARRIVED_MS} for offset, text in enumerate(texts + [text for _, text in bad])]
    letters = [line(len(texts) + n, text) | {"reason": reason} for n, (reason, text) in enumerate(bad)]
    counted = [json.loads(text) for text in texts[:20]]
    archive = [record | {"offset": offset} for offset, record in enumerate(counted + [json.loads(texts[20])])]
    rows = [row(seconds, start, counted) for seconds in (5, 60, 300) for start in range(0, 20, seconds)]
    places = [identity(text) | {"place": [0, n], "bytes": len(text), "keyed": True} for n, text in enumerate(texts)]
    ledger = [minute(WORKSPACE, read=23, counted=20, running=1, duplicate=1, future=1, archived=21, accepted=5, from_edge=5)]
    ledger += [minute(None, read=4, invalid=3, unknown_workspace=1), minute(None, at="10:07", read=1, unknown_workspace=1)]
    raw += [line(len(raw), metric(50, workspace_id=str(uuid.UUID(int=8)))) | {"time_ms": ARRIVED_MS + 60_000}]
    letters += [{name: raw[-1][name] for name in ("partition", "offset", "bytes", "text")} | {"reason": "unknown_workspace"}]
    for record in raw[:5]:
        record["edge"] = True
    case = {"raw": raw, "letters": letters, "archive": archive, "rows": rows, "acknowledged": places, "ledger": ledger}
    return case


def minute(workspace, at="10:06", **counts):
    names = ("accepted", "from_edge", "read", "counted", "running", "duplicate", "late", "backfilled", "archived")
    dead = {reason: counts.get(reason, 0) for reason in ("invalid", "unknown_workspace", "future")}
    row = {name: counts.get(name, 0) for name in names} | {"dead_lettered": dead, "balanced": True}
    return row | {"workspace_id": workspace, "minute": f"2026-11-21T{at}:00Z"}


def identity(text):
    return {"identity": {key: json.loads(text)[key] for key in ("workspace_id", "id")}}


def row(seconds, start, records):
    durations = [record["duration_ms"] for record in records[start : start + seconds]]
    counts = {"query_count": len(durations), "success_count": len(durations), "duration_count": len(durations)}
    counts |= {"failed_count": 0, "timeout_count": 0, "cancelled_count": 0}
    counts["total_rows_affected"] = sum(record["rows_affected"] for record in records[start : start + seconds])
    rank = lambda share: durations[max(0, -int(-share * len(durations) // 1) - 1)]
    measures = {"min_duration_ms": durations[0], "max_duration_ms": durations[-1], "sum_duration_ms": sum(durations)}
    measures |= {"p50_duration_ms": rank(0.5), "p95_duration_ms": rank(0.95), "p99_duration_ms": rank(0.99)}
    names = {"workspace_id": WORKSPACE, "service_id": SERVICE, "window_s": seconds, "bucket": f"2026-11-21T10:05:{start:02}Z"}
    return names | counts | measures


def twice(name):
    return lambda case: case[name].append(case[name][2])


def without(name, at=2):
    return lambda case: case[name].pop(at)


def change(name, **changes):
    return lambda case: case[name][2].update(changes)


PLANTED = {
    "1 acknowledged records that the log does not have where it said": change("acknowledged", place=[0, 4]),
    "1 acknowledged records that the log does not have,": change("acknowledged", identity=identity(metric(50))["identity"], place=None),
    "1 dead letters that should not be": change("letters", reason="future"),
    "1 dead letters that are missing": without("letters"),
    "1 records with more than one dead letter": twice("letters"),
    "1 dead letters with other bytes": change("letters", text="x", bytes=1),
    "1 records that are archived more than once": twice("archive"),
    "1 records that are not archived": without("archive"),
    "1 archived records that do not count": lambda case: case["archive"].append(case["archive"][3] | {"offset": 21}),
    "1 archived records with another content": change("archive", duration_ms=7.0),
    "1 windows that are missing": without("rows"),
    "1 windows that should not be": change("rows", bucket="2026-11-21T10:06:00Z"),
    "1 windows told twice": twice("rows"),
    "1 minutes of the ledger that are missing": without("ledger", 0),
    "1 minutes of the ledger that should not be": lambda case: case["ledger"][0].update(minute="2026-11-21T10:08:00Z"),
    "1 minutes of the ledger with other counts": lambda case: case["ledger"][1].update(read=5),
    "1 minutes of the ledger with other records of unknown": lambda case: case["ledger"][2]["dead_lettered"].update(unknown_workspace=2),
    "1 minutes of the ledger that do not balance": change("ledger", accepted=1),
    "1 workspaces of the ledger with more late records than counted": lambda case: case["ledger"][0].update(late=20, backfilled=1),
    "1 windows with another query_count": change("rows", query_count=6),
    "1 windows with another max_duration_ms": change("rows", max_duration_ms=3.25),
    "1 windows with another sum_duration_ms": change("rows", sum_duration_ms=3.25),
    "1 windows with another p95_duration_ms": change("rows", p95_duration_ms=3.25),
}


def write(case, folder):
    for name in ("raw", "letters", "rows", "acknowledged", "ledger"):
        (folder / f"{name}.ndjson").write_text("".join(json.dumps(line) + "\n" for line in case[name]))
    (folder / "archive").mkdir()
    (folder / "archive.ndjson").write_text("".join(json.dumps(line) + "\n" for line in case["archive"]))
    columns = """id, workspace_id, service_id, query_text, status, duration_ms::double as duration_ms, rows_affected,
        completed_at::timestamptz as completed_at, 0 as source_partition, "offset" as source_offset"""
    source = f"read_json('{folder}/archive.ndjson', convert_strings_to_integers = false)"
    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    database.execute(f"copy (select {columns} from {source}) to '{folder}/archive/a.parquet'")
    settings = {"workspaces": {WORKSPACE: ARRIVED_MS * 1000}, "dedupe_records": 1_000_000, "archive": f"{folder}/archive"}
    (folder / "case.json").write_text(json.dumps(settings))


def audit(case, folder):
    folder.mkdir(parents=True)
    write(case, folder)
    return subprocess.run([sys.executable, AUDIT, folder], capture_output=True, text=True, check=False)


def main(folder):
    folder = pathlib.Path(folder)
    if (right := audit(right_case(), folder / "right")).returncode != 0:
        sys.exit(f"the right case is called wrong: {right.stderr}")
    for number, (wanted, plant) in enumerate(PLANTED.items()):
        case = right_case()
        plant(case)
        found = audit(case, folder / str(number))
        if found.returncode != 1 or wanted not in found.stderr:
            sys.exit(f"planted: {wanted}; found: {found.stdout} {found.stderr}")
    print(f"{len(PLANTED)} planted errors found")


main(*sys.argv[1:])
