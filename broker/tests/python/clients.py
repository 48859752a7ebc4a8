#!/usr/bin/env python3
"""clients.py BOOTSTRAP [CHECK...]: a Kafka-compatible broker as confluent-kafka and kcat see it.

Each check runs in a process of its own with a time limit, so that a client that hangs is one failure only. A line for
each says PASS or FAIL; the last line counts. Waits are for conditions with a deadline."""
import functools
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid

from confluent_kafka import (OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, TIMESTAMP_CREATE_TIME, Consumer,
                             ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions,
                                   NewTopic)

BOOTSTRAP = sys.argv[1]
PATIENCE_S = 60
CHECK_LIMIT_S = 120
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def unique(what):
    return f'py-{what}-{uuid.uuid4().hex[:10]}'


def until(what, condition, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f'not within {patience_s} s: {what}')


@functools.cache
def admin():
    """Kept: what it was asked is lost with it."""
    return AdminClient({'bootstrap.servers': BOOTSTRAP})


def results(futures):
    return [future.result() for future in futures.values()]


def topic(partitions=1, **config):
    name = unique('t')
    settings = {key.replace('_', '.'): value for key, value in config.items()}
    results(admin().create_topics([NewTopic(name, partitions, 1, config=settings)], operation_timeout=20))
    return name


def producer(**settings):
    return Producer({'bootstrap.servers': BOOTSTRAP, 'enable.idempotence': True, 'linger.ms': 5,
                     'message.timeout.ms': 30000, **{key.replace('_', '.'): value for key, value in settings.items()}})


def consumer(group=None, **settings):
    return Consumer({'bootstrap.servers': BOOTSTRAP, 'group.id': group or unique('g'), 'auto.offset.reset': 'earliest',
                     'enable.auto.commit': False, 'session.timeout.ms': 10000, 'heartbeat.interval.ms': 500,
                     **{key.replace('_', '.'): value for key, value in settings.items()}})


def produce(name, count, by=None, keys=1 << 30, tag='v'):
    by, failed = by or producer(), []
    for index in range(count):
        by.produce(name, key=b'k%d' % (index % keys), value=f'{tag}{index}'.encode(),
                   on_delivery=lambda error, _: failed.append(error) if error else None)
        by.poll(0)
    left = by.flush(PATIENCE_S)
    assert not failed and left == 0, (failed[:2], left)


def drain(who, count, patience_s=PATIENCE_S):
    """Waits for `count` records; fewer where they do not come in time."""
    got, end = [], time.monotonic() + patience_s
    while len(got) < count and time.monotonic() < end:
        for message in who.consume(min(500, count - len(got)), 0.2):
            assert not message.error(), message.error()
            got.append(message)
    return got


def read(name, count, **settings):
    who = consumer(**settings)
    who.subscribe([name])
    got = drain(who, count)
    who.close()
    return got


def values(messages):
    return [message.value() for message in messages]


@check
def metadata():
    found = admin().list_topics(timeout=10)
    assert len(found.brokers) == 1 and found.cluster_id, found.brokers


@check
def topics_made_once():
    name = topic(3)
    assert len(admin().list_topics(name, timeout=10).topics[name].partitions) == 3
    try:
        results(admin().create_topics([NewTopic(name, 3, 1)]))
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
    else:
        raise AssertionError('made twice')


@check
def settings_incremental():
    resource = ConfigResource.Type.TOPIC
    name = topic(retention_ms='123456')
    described = results(admin().describe_configs([ConfigResource(resource, name)]))[0]
    assert described['retention.ms'].value == '123456'
    change = ConfigEntry('retention.ms', '777', incremental_operation=AlterConfigOpType.SET)
    results(admin().incremental_alter_configs([ConfigResource(resource, name, incremental_configs=[change])]))
    until('it is changed', lambda: results(
        admin().describe_configs([ConfigResource(resource, name)]))[0]['retention.ms'].value == '777')


@check
def partitions_added():
    name = topic(1)
    results(admin().create_partitions([NewPartitions(name, 4)]))
    until('there are four', lambda: len(admin().list_topics(name, timeout=10).topics[name].partitions) == 4)


@check
def topics_deleted():
    name = topic(2)
    produce(name, 10)
    results(admin().delete_topics([name], operation_timeout=20))
    until('it is gone', lambda: name not in admin().list_topics(timeout=10).topics)


def exactly(codec):
    name, by, failed, first = topic(), producer(compression_type=codec), [], int(time.time() * 1000) - 3_600_000
    filler = os.urandom(50) * 20

    def expected(index):
        value = filler + b'%d' % index if index % 7 else None
        key = b'k%d' % index if index % 5 else None
        headers = [('h', b'x%d' % index), ('h', b'again'), ('null', None), ('empty', b'')]
        return key, value, headers, (TIMESTAMP_CREATE_TIME, first + index), index

    for index in range(500):
        key, value, headers, (_, timestamp), _ = expected(index)
        by.produce(name, key=key, value=value, headers=headers, timestamp=timestamp,
                   on_delivery=lambda error, _: failed.append(error) if error else None)
    assert by.flush(PATIENCE_S) == 0 and not failed, failed[:2]
    got = read(name, 500)
    assert len(got) == 500
    for index, message in enumerate(got):
        seen = message.key(), message.value(), message.headers(), message.timestamp(), message.offset()
        assert seen == expected(index), (index, seen)


for _codec in ('none', 'gzip', 'snappy', 'lz4', 'zstd'):
    CHECKS[f'codec_{_codec}'] = lambda codec=_codec: exactly(codec)


@check
def order():
    name = topic(4)
    produce(name, 5000, keys=50, tag='')
    last = {}
    got = read(name, 5000)
    assert len(got) == 5000
    for message in got:
        number = int(message.value())
        assert last.get(message.key(), -1) < number
        last[message.key()] = number


@check
def positions():
    name = topic()
    produce(name, 100)
    who = consumer()
    assert who.get_watermark_offsets(TopicPartition(name, 0), timeout=10) == (0, 100)
    who.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    assert drain(who, 1)[0].offset() == 0
    for offset in (57, 99, 3):
        who.seek(TopicPartition(name, 0, offset))
        assert drain(who, 1)[0].offset() == offset
    who.assign([TopicPartition(name, 0, 5000)])
    assert drain(who, 1)[0].offset() == 0, 'out of range'
    who.close()


@check
def times():
    name, base, by = topic(), int(time.time() * 1000) - 10_000_000, producer()
    for index in range(100):
        by.produce(name, b'x', timestamp=base + index * 1000)
        if index % 10 == 9:
            by.flush()
    who = consumer()
    for timestamp, expected in ((base - 5, 0), (base + 41_500, 42), (base + 99_000, 99), (base + 99_001, OFFSET_END)):
        assert who.offsets_for_times([TopicPartition(name, 0, timestamp)], timeout=10)[0].offset == expected


@check
def commits():
    name, group = topic(2), unique('g')
    produce(name, 200)
    seen = set()
    for _ in range(2):
        who = consumer(group)
        who.subscribe([name])
        seen |= {(message.partition(), message.offset()) for message in drain(who, 100)}
        who.commit(asynchronous=False)
        who.close()
    assert len(seen) == 200, len(seen)


@check
def metadata_of_commits():
    name, who = topic(), consumer()
    assert who.committed([TopicPartition(name, 0)], timeout=10)[0].offset == OFFSET_INVALID
    who.commit(offsets=[TopicPartition(name, 0, 3, 'meta-π')], asynchronous=False)
    found = who.committed([TopicPartition(name, 0)], timeout=10)[0]
    assert (found.offset, found.metadata) == (3, 'meta-π'), found
    who.close()


class Member(threading.Thread):
    """A consumer on a thread of its own."""

    def __init__(self, group, name, **settings):
        super().__init__()
        self.settings, self.group, self.topic = settings, group, name
        self.assigned, self.seen, self.leaving = set(), set(), False
        self.start()

    def run(self):
        who = consumer(self.group, **self.settings)
        who.subscribe([self.topic])
        while not self.leaving:
            for message in who.consume(100, 0.1):
                assert not message.error(), message.error()
                self.seen.add((message.partition(), message.offset()))
            self.assigned = {assigned.partition for assigned in who.assignment()}
        who.close()

    def leave(self):
        self.leaving = True
        self.join()


def rebalance(strategy):
    name, group, everything = topic(4), unique('g'), {0, 1, 2, 3}
    produce(name, 400)
    first = Member(group, name, partition_assignment_strategy=strategy)
    second = None
    try:
        until('one has all', lambda: first.assigned == everything)
        second = Member(group, name, partition_assignment_strategy=strategy)
        until('both have half', lambda: len(first.assigned) == len(second.assigned) == 2
              and first.assigned | second.assigned == everything)
        produce(name, 400)
        until('all is seen', lambda: len(first.seen | second.seen) == 800)
        second.leave()
        until('one has all again', lambda: first.assigned == everything)
    finally:
        first.leave()
        if second:
            second.leave()


for _strategy in ('range', 'roundrobin', 'cooperative-sticky'):
    CHECKS[f'rebalance_{_strategy}'] = lambda strategy=_strategy: rebalance(strategy)


@check
def static_member():
    name, group = topic(2), unique('g')
    produce(name, 10)
    for _ in range(2):
        who = consumer(group, group_instance_id='one')
        who.subscribe([name])
        assert len(drain(who, 10)) == 10
        who.close()


@check
def new_consumer_protocol():
    """KIP-848"""
    name = topic(2)
    produce(name, 10)
    who = Consumer({'bootstrap.servers': BOOTSTRAP, 'group.id': unique('g848'), 'group.protocol': 'consumer',
                    'auto.offset.reset': 'earliest'})
    who.subscribe([name])
    assert len(drain(who, 10, 15)) == 10
    who.close()


@check
def groups_administered():
    name, group, boss = topic(), unique('g'), admin()
    produce(name, 10)
    who = consumer(group)
    who.subscribe([name])
    drain(who, 10)
    who.commit(asynchronous=False)
    assert group in [found.group_id for found in boss.list_consumer_groups().result().valid]
    described = results(boss.describe_consumer_groups([group]))[0]
    assert described.state.name == 'STABLE' and len(described.members) == 1, described.state
    who.close()

    def alter():
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 4)])
        try:
            return results(boss.alter_consumer_group_offsets([wanted]))
        except KafkaException:
            return None

    until('the group is empty', alter)
    found = results(boss.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[0]
    assert [(part.topic, part.offset) for part in found.topic_partitions] == [(name, 4)]
    who = consumer(group)
    who.subscribe([name])
    assert drain(who, 6)[0].offset() == 4
    who.close()

    def delete():
        try:
            return results(boss.delete_consumer_groups([group])) == [None]
        except KafkaException:
            return False

    until('it is deleted', delete)


def transactional(identity, **settings):
    by = Producer({'bootstrap.servers': BOOTSTRAP, 'transactional.id': identity, 'linger.ms': 5, **settings})
    by.init_transactions(PATIENCE_S)
    return by


@check
def transactions():
    name, by = topic(2), transactional(unique('tx'))
    for tag, count, commit in (('c1', 10, True), ('a1', 10, False), ('c2', 10, True), ('a2', 7, False), ('c3', 5, True)):
        by.begin_transaction()
        produce(name, count, by, tag=tag)
        (by.commit_transaction if commit else by.abort_transaction)(PATIENCE_S)
    seen = values(read(name, 25))
    assert len(seen) == 25 and all(value.startswith(b'c') for value in seen), seen
    assert len(read(name, 42, isolation_level='read_uncommitted')) == 42


@check
def transaction_open():
    name, by = topic(), transactional(unique('tx'))
    produce(name, 3, tag='before')
    by.begin_transaction()
    produce(name, 1, by, tag='open')
    produce(name, 2, tag='after')
    who = consumer()
    who.assign([TopicPartition(name, 0, 0)])
    assert len(drain(who, 4, 3)) == 3, 'what is open is seen'
    by.commit_transaction(PATIENCE_S)
    assert values(drain(who, 3)) == [b'open0', b'after0', b'after1']
    who.close()


@check
def transaction_fenced():
    name, identity = topic(), unique('tx')
    zombie = transactional(identity)
    zombie.begin_transaction()
    produce(name, 1, zombie, tag='zombie')
    living = transactional(identity)
    living.begin_transaction()
    produce(name, 1, living, tag='living')
    living.commit_transaction(PATIENCE_S)
    try:
        zombie.commit_transaction(PATIENCE_S)
    except KafkaException as error:
        assert error.args[0].fatal(), error
    else:
        raise AssertionError('the zombie committed')
    assert values(read(name, 1)) == [b'living0']


@check
def transaction_timed_out():
    name = topic()
    by = transactional(unique('tx'), **{'transaction.timeout.ms': 3000, 'message.timeout.ms': 3000})
    by.begin_transaction()
    produce(name, 1, by, tag='open')
    produce(name, 1, tag='after')
    assert values(read(name, 1)) == [b'after0']


@check
def retention():
    name = topic(retention_ms='1000', segment_ms='500')
    produce(name, 100)
    who = consumer()
    until('the records are gone', lambda: who.get_watermark_offsets(TopicPartition(name, 0), timeout=10)[0] > 0, 30)


@check
def records_deleted():
    name = topic()
    produce(name, 100)
    deleted = results(admin().delete_records([TopicPartition(name, 0, 40)]))
    assert deleted[0].low_watermark == 40, deleted
    assert [message.offset() for message in read(name, 60)] == list(range(40, 100))


@check
def kcat():
    if not shutil.which('kcat'):
        return 'there is no kcat here'
    name = topic()

    def run(*arguments, given=b''):
        return subprocess.run(['kcat', '-b', BOOTSTRAP, *arguments], input=given, capture_output=True, check=True,
                              timeout=PATIENCE_S).stdout

    run('-P', '-t', name, '-H', 'a=b', '-K:', '-z', 'lz4', '-X', 'enable.idempotence=true', given=b'k1:hello\nk2:world\n')
    seen = run('-C', '-t', name, '-e', '-f', '%k=%s %h %o\n')
    assert seen == b'k1=hello a=b 0\nk2=world a=b 1\n', seen
    assert name.encode() in run('-L')
    grouped = run('-G', unique('g'), name, '-X', 'auto.offset.reset=earliest', '-c', '2')
    assert b'hello' in grouped and b'world' in grouped, grouped
    return None


def one(name):
    """Runs one check and ends the process, whatever a client still does."""
    try:
        print('PASS', CHECKS[name]() or '', flush=True)
    except BaseException as error:  # an assertion, a client's error, a time-out: all are failures of the check
        print('FAIL', type(error).__name__, str(error)[:600].replace('\n', ' '), flush=True)
        os._exit(1)
    os._exit(0)


def main(names):
    passed = 0
    for name in names:
        began, command = time.monotonic(), [sys.executable, __file__, BOOTSTRAP, '--one', name]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_LIMIT_S, check=False)
            said = (ended.stdout.strip().splitlines() or [f'FAIL {ended.stderr[-300:]}'])[-1]
        except subprocess.TimeoutExpired:
            said = f'FAIL no end after {CHECK_LIMIT_S} s'
        passed += said.startswith('PASS')
        print(f'{name:26} {time.monotonic() - began:5.1f}s {said}', flush=True)
    print(f'{passed}/{len(names)}')


if __name__ == '__main__':
    if sys.argv[2:3] == ['--one']:
        one(sys.argv[3])
    main(sys.argv[2:] or list(CHECKS))
