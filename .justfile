# What .ci/run does, step by step, and the services for development.

kafka_port := "9092"
postgres_port := "5432"

[private]
default:
    @just --list --unsorted

# Format everything
fmt:
    cargo fmt --all

# Lints, warnings denied
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Licences, bans and sources of the dependencies
deny:
    cargo deny --locked check licenses bans sources

# All tests, on the embedded log and store: no service needed
test:
    cargo test --workspace --locked

# The integration suites, against the services of `just services-start`
it *ARGUMENTS:
    MILLRACE_TEST_KAFKA=127.0.0.1:{{ kafka_port }} \
    MILLRACE_TEST_DATABASE_URL=postgresql://app:app@127.0.0.1:{{ postgres_port }}/app \
    cargo test --workspace --locked --test it {{ ARGUMENTS }}

# KILLS faults' worth of chaos, on services of its own; a SEED plans the same faults once more
chaos KILLS="24" SEED="":
    MILLRACE_TEST_CHAOS={{ KILLS }} MILLRACE_TEST_SEED={{ SEED }} \
        MILLRACE_TEST_PYTHON="${MILLRACE_TEST_PYTHON:-${MILLRACE_CACHE:-/var/cache/millrace}/python/bin/python}" \
        cargo test --workspace --locked --test it -- --nocapture chaos::nothing_is_lost

# Three brokers, each killed ROUNDS times while the others go on; on the services that MILLRACE_TEST_… name
cluster ROUNDS="1":
    MILLRACE_TEST_CLUSTER={{ ROUNDS }} cargo test --workspace --locked --test it -- --nocapture cluster::

# Many more schedules of the simulation than the tests run
simulate SCHEDULES="100000":
    MILLRACE_SIMULATIONS={{ SCHEDULES }} cargo test --workspace --locked --lib -- --nocapture any_schedule

# Every fuzz target for so many seconds, two at a time
fuzz SECONDS="60":
    fuzz/run {{ SECONDS }}

# All of it, with services of its own
ci:
    .ci/run

# Write the JSON Schemas anew after a change of the record types
schemas:
    MILLRACE_WRITE_SCHEMAS=1 cargo test --locked -p millrace-schemas

# A Kafka and a PostgreSQL for development
services-start:
    deploy/dev/kafka.sh start {{ kafka_port }}
    deploy/dev/postgres.sh start {{ postgres_port }}

services-stop:
    deploy/dev/kafka.sh stop {{ kafka_port }}
    deploy/dev/postgres.sh stop

# Everything in one process, nothing else needed
up *ARGUMENTS:
    cargo run --release --locked -- up --dev {{ ARGUMENTS }}

# The same against the services of `just services-start`
up-services *ARGUMENTS:
    cargo run --release --locked -- up --dev --kafka-brokers 127.0.0.1:{{ kafka_port }} \
        --database-url postgresql://app:app@127.0.0.1:{{ postgres_port }}/app {{ ARGUMENTS }}

# All benchmarks, scaled down, into BENCHMARKS.md; `millrace bench --help` for one at a time
bench *ARGUMENTS:
    .ci/bench {{ ARGUMENTS }}
