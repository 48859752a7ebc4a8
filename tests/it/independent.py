"""Produces one record with Confluent's client and waits for it on two WebSockets, one for each way to give a key.
usage: independent.py BROKERS TOPIC SOCKET KEY WORKSPACE"""

import asyncio
import json
import sys
import uuid
from datetime import datetime, timezone

import websockets
from confluent_kafka import Producer

SERVICE = "550e8400-e29b-41d4-a716-446655440001"
DEADLINE_S = 60


def record(workspace):
    now = datetime.now(timezone.utc).isoformat()
    return {
        "id": str(uuid.uuid4()),
        "workspace_id": workspace,
        "service_id": SERVICE,
        "query_text": "select 'wide world'",
        "status": "success",
        "duration_ms": 1,
        "started_at": now,
        "completed_at": now,
    }


def produce(brokers, topic, produced):
    failures = []
    producer = Producer({"bootstrap.servers": brokers})
    key = f"{produced['workspace_id']}/{produced['service_id']}"
    producer.produce(topic, json.dumps(produced), key, on_delivery=lambda error, _: failures.append(error))
    left = producer.flush(DEADLINE_S)
    if left or failures != [None]:
        sys.exit(f"not delivered: {left} left, {failures}")


async def receive(socket, wanted):
    async for text in socket:
        frame = json.loads(text)
        shown = frame.get("data", frame)
        if shown.get("id") == wanted:
            return


async def main(brokers, topic, url, key, workspace):
    produced = record(workspace)
    header = {"Authorization": f"Bearer {key}"}
    async with (
        websockets.connect(url, additional_headers=header) as bare,
        websockets.connect(f"{url}?format=v2&api_key={key}") as typed,
    ):
        await asyncio.to_thread(produce, brokers, topic, produced)
        both = asyncio.gather(receive(bare, produced["id"]), receive(typed, produced["id"]))
        await asyncio.wait_for(both, DEADLINE_S)
    print("seen by all")


asyncio.run(main(*sys.argv[1:]))
