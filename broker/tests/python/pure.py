#!/usr/bin/env python3
"""pure.py BOOTSTRAP: the broker as kafka-python sees it, a client that owes librdkafka and Java nothing."""
import sys
import uuid

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

BOOTSTRAP = sys.argv[1]
PATIENCE_MS = 30_000


def produced(name, codec):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks='all', compression_type=codec, linger_ms=5)
    sent = [producer.send(name, key=b'k%d' % index, value=b'v%d' % index, headers=[('h', b'x')]) for index in range(100)]
    offsets = [future.get(timeout=30).offset for future in sent]
    producer.close()
    return offsets


def consumed(name, group, count):
    """Reads as a member of the group, and commits."""
    consumer = KafkaConsumer(name, bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset='earliest',
                             enable_auto_commit=False, consumer_timeout_ms=PATIENCE_MS)
    seen = []
    for message in consumer:
        seen.append((message.offset, message.key, message.value))
        if len(seen) == count:
            break
    consumer.commit()
    committed, end = consumer.committed(TopicPartition(name, 0)), consumer.end_offsets([TopicPartition(name, 0)])
    consumer.close()
    assert committed == list(end.values())[0], (committed, end)
    return seen


def main():
    name, group = (f'pure-{what}-{uuid.uuid4().hex[:8]}' for what in ('t', 'g'))
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    assert name in admin.list_topics()
    assert produced(name, 'gzip') == list(range(100))
    assert consumed(name, group, 100) == [(index, b'k%d' % index, b'v%d' % index) for index in range(100)]
    assert produced(name, None) == list(range(100, 200))
    assert [offset for offset, _, _ in consumed(name, group, 100)] == list(range(100, 200))
    admin.delete_topics([name])
    admin.close()
    print('all is well')


main()
