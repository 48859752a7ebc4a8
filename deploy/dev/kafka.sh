#!/usr/bin/env bash
# A real Apache Kafka broker for development and tests (KRaft, 127.0.0.1, one node unless KAFKA_EXTRA says more), from Maven
# artifacts.
#
#   kafka.sh install                  get the jars (and, as root, missing Debian packages)
#   kafka.sh installed                exit 0 when `start` has nothing to install, else 1
#   kafka.sh start [PORT] [DATADIR]   format DATADIR if it is new, start, wait until ready; PORT is 9092 by default
#   kafka.sh stop [PORT]              end it by its pid; without PORT, the only one running
#   kafka.sh status                   the brokers started from the cache folder; exit 3 when none is ready
#   kafka.sh pid PORT                 the process id of the broker on PORT
#   kafka.sh run CLASS ARG...         run one of Kafka's tools, such as
#                                     org.apache.kafka.tools.TopicCommand
#
# Each verb may be repeated: what is done already is not done again, and is no error.
#
# Environment, all optional:
#   MILLRACE_CACHE         state folder, outside any clone: jars, pid files, logs, data in its kafka/
#                          (default: /var/cache/millrace for root, else ${XDG_CACHE_HOME:-~/.cache}/millrace)
#   KAFKA_HEAP_OPTS        the broker's heap                           (default: -Xms256m -Xmx1g)
#   KAFKA_TOOL_HEAP        a tool's heap                               (default: -Xmx512m)
#   KAFKA_CLUSTER_ID       the id to format DATADIR with               (default: a random one)
#   KAFKA_CONTROLLER_PORT  the controller's port                       (default: PORT+1)
#   KAFKA_START_TIMEOUT    seconds to wait for readiness               (default: 90)
#   KAFKA_STOP_TIMEOUT     seconds to wait after SIGTERM               (default: 60)
#   KAFKA_EXTRA            extra server.properties lines, newline separated (they win)
#   MAVEN_REPO             a Maven local repository other than ~/.m2/repository
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ $(id -u) == 0 ]]; then cache=/var/cache/millrace; else cache=${XDG_CACHE_HOME:-$HOME/.cache}/millrace; fi
home=${MILLRACE_CACHE:-$cache}/kafka
run=$home/run
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
# Keyed by the pom's content, so a changed pom is installed afresh.
libs=$home/jars/kafka-$version-$(sha256sum < "$here/pom.xml" | cut -c1-12)

die() { echo "kafka.sh: $*" >&2; exit 1; }

is_broker() { # PID: is it one of our broker processes, and still alive?
  [[ $1 =~ ^[0-9]+$ && -r /proc/$1/cmdline ]] || return 1
  grep -q '^State:.Z' "/proc/$1/status" && return 1
  tr '\0' ' ' < "/proc/$1/cmdline" | grep -q ' kafka\.Kafka '
}

java_version() { # the major version of the java in PATH, 0 without one
  { java -version 2>&1 || true; } | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1 | grep . || echo 0
}

lacking() { # the Debian packages that installing (`lacking install`) or running needs and this machine has not
  (($(java_version) >= 17)) || echo openjdk-17-jre-headless
  [[ ${1:-} != install ]] || command -v mvn > /dev/null || echo maven
}

require() { # install | run: get what is lacking, or say what it is
  local missing
  mapfile -t missing < <(lacking "$1")
  # kcat only makes the wait for readiness quicker: worth having, not worth failing for
  if [[ $(id -u) == 0 ]] && ! command -v kcat > /dev/null; then missing+=(kcat); fi
  ((${#missing[@]})) || return 0
  if [[ $(id -u) != 0 ]] || ! command -v apt-get > /dev/null; then
    die "this machine lacks what Kafka $version needs: Java 17 or later, and Maven to install it.
  On Debian, as root: apt-get install ${missing[*]}
  Or use a Kafka that runs elsewhere: nothing but this script needs Java."
  fi
  echo "kafka.sh: installing ${missing[*]}" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null < /dev/null
  [[ -z $(lacking "$1") ]] || die "still lacking after apt-get install: $(lacking "$1" | xargs)"
}

install() {
  if [[ -d $libs ]]; then
    require run
  else
    require install
    mkdir -p "$home/jars"
    local tmp=$libs.tmp.$$
    # shellcheck disable=SC2064
    trap "rm -rf '$tmp'" EXIT
    mvn -B -ntp -q -C -f "$here/pom.xml" ${MAVEN_REPO:+-Dmaven.repo.local="$MAVEN_REPO"} \
      org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$tmp" < /dev/null
    mv "$tmp" "$libs"
    trap - EXIT
  fi
  echo "kafka $version: $(find "$libs" -name '*.jar' | wc -l) jars, $(du -sh "$libs" | cut -f1) in $libs"
}

installed() { [[ -d $libs && -z $(lacking run) ]]; }

log4j() { # LEVEL TARGET FILE: write a log4j2 configuration
  cat > "$3" << EOF
<Configuration status="WARN">
  <Appenders><Console name="c" target="$2"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
  <Loggers><Root level="$1"><AppenderRef ref="c"/></Root></Loggers>
</Configuration>
EOF
}

tool() {
  [[ -d $libs ]] || die "not installed: run '$0 install'"
  mkdir -p "$run"
  [[ -f $run/log4j2-tool.xml ]] || log4j WARN SYSTEM_ERR "$run/log4j2-tool.xml"
  # shellcheck disable=SC2086 # several options in one variable
  java ${KAFKA_TOOL_HEAP:--Xmx512m} -Dlog4j2.configurationFile="file:$run/log4j2-tool.xml" \
    -cp "$libs/*" "$@"
}

ready() { # PORT
  if command -v kcat > /dev/null; then
    timeout 5 kcat -L -b "127.0.0.1:$1" -m 2 2> /dev/null | grep -q '^ [1-9][0-9]* brokers'
  else
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$1" --list > /dev/null 2>&1
  fi
}

already() { # PORT DATADIR: a second start of the same broker is fine, one with other data is not
  grep -qx "log.dirs=$2/log" "$run/kafka-$1.properties" ||
    die "another broker runs on port $1: $(grep -x 'log.dirs=.*' "$run/kafka-$1.properties")"
  local end=$((SECONDS + ${KAFKA_START_TIMEOUT:-90}))
  until ready "$1"; do
    ((SECONDS < end)) || die "the broker on port $1 runs but is not ready; its log: $run/kafka-$1.log"
    sleep 0.2
  done
  echo "kafka $version already runs on 127.0.0.1:$1, pid $(< "$run/kafka-$1.pid"), data $2"
}

start() {
  local port=${1:-9092} data=${2:-}
  [[ $port =~ ^[0-9]+$ ]] || die "PORT must be a number, not '$port'"
  data=${data:-$home/data-$port}
  local cport=${KAFKA_CONTROLLER_PORT:-$((port + 1))} pidfile=$run/kafka-$port.pid
  local conf=$run/kafka-$port.properties log=$run/kafka-$port.log p
  installed || install
  mkdir -p "$run" "$data"
  data=$(cd "$data" && pwd)
  if [[ -f $pidfile ]] && is_broker "$(< "$pidfile")"; then
    already "$port" "$data"
    return
  fi
  for p in "$port" "$cport"; do
    if (exec 3<> "/dev/tcp/127.0.0.1/$p") 2> /dev/null; then die "port $p is taken"; fi
  done

  # The broker holds this lock for as long as it lives: a second one on the same folder would
  # take the metadata log over, and the first would die.
  flock -n "$data/.owner" true || die "$data is in use by another broker"

  cat > "$conf" << EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$cport
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$cport
advertised.listeners=PLAINTEXT://127.0.0.1:$port
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$data/log
# apart from log.dirs, or the metadata log is opened and written before any lock is taken
metadata.log.dir=$data/meta
# one node: the internal topics' defaults of 3 copies and 50 partitions do not fit
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
# a restart after kill -9 waits until the dead incarnation's session ends (default 9000)
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000
num.partitions=4
auto.create.topics.enable=false
${KAFKA_EXTRA:-}
EOF
  log4j INFO SYSTEM_OUT "$run/log4j2-broker.xml"
  if [[ ! -f $data/meta/meta.properties ]]; then
    local id
    id=${KAFKA_CLUSTER_ID:-$(tool kafka.tools.StorageTool random-uuid)}
    tool kafka.tools.StorageTool format -t "$id" -c "$conf" | grep -v '^Bootstrap metadata'
  fi

  [[ ! -f $log ]] || mv "$log" "$log.1"
  rm -f "$pidfile"
  # exec keeps the pid that the file names; setsid so that a closed terminal does not end it.
  # shellcheck disable=SC2016,SC2086
  setsid bash -c 'echo $$ > "$1"; shift; exec "$@"' _ "$pidfile" \
    flock -n -F "$data/.owner" java ${KAFKA_HEAP_OPTS:--Xms256m -Xmx1g} -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="file:$run/log4j2-broker.xml" \
    -cp "$libs/*" kafka.Kafka "$conf" > "$log" 2>&1 < /dev/null &
  local end=$((SECONDS + ${KAFKA_START_TIMEOUT:-90}))
  until [[ -s $pidfile ]] && is_broker "$(< "$pidfile")" || ((SECONDS > end)); do
    sleep 0.1
    kill -0 $! 2> /dev/null || break
  done
  until ready "$port"; do
    is_broker "$(cat "$pidfile" 2> /dev/null)" || { tail -20 "$log" >&2; rm -f "$pidfile"; die "the broker ended; its log: $log"; }
    ((SECONDS < end)) || { stop "$port"; die "not ready in time; its log: $log"; }
    sleep 0.2
  done
  echo "kafka $version ready on 127.0.0.1:$port, pid $(< "$pidfile"), data $data, log $log"
}

stop() {
  local port=${1:-} files pid
  if [[ -z $port ]]; then
    shopt -s nullglob
    files=("$run"/kafka-*.pid)
    ((${#files[@]})) || { echo "nothing to stop"; return 0; }
    ((${#files[@]} == 1)) || die "name the port: ${files[*]}"
    port=${files[0]##*/kafka-}
    port=${port%.pid}
  fi
  local pidfile=$run/kafka-$port.pid
  [[ -f $pidfile ]] || { echo "nothing to stop on port $port"; return 0; }
  pid=$(< "$pidfile")
  if is_broker "$pid"; then
    kill -TERM "$pid"
    local end=$((SECONDS + ${KAFKA_STOP_TIMEOUT:-60}))
    while is_broker "$pid"; do
      if ((SECONDS > end)); then echo "pid $pid ignored SIGTERM; SIGKILL" >&2; kill -KILL "$pid"; sleep 1; fi
      sleep 0.1
    done
    echo "stopped pid $pid on port $port"
  else
    echo "pid $pid on port $port was already gone"
  fi
  rm -f "$pidfile"
}

status() {
  local f port rc=3
  shopt -s nullglob
  for f in "$run"/kafka-*.pid; do
    port=${f##*/kafka-}
    port=${port%.pid}
    if ! is_broker "$(< "$f")"; then echo "port $port: pid $(< "$f") is gone"
    elif ready "$port"; then echo "port $port: pid $(< "$f") ready, RSS $(awk '/VmRSS/ {print int($2/1024)}' "/proc/$(< "$f")/status") MiB"; rc=0
    else echo "port $port: pid $(< "$f") not ready"; fi
  done
  return $rc
}

pid() {
  local file=$run/kafka-${1:?pid PORT}.pid
  if [[ -f $file ]] && is_broker "$(< "$file")"; then cat "$file"; else die "no broker on port $1"; fi
}

verb=${1:-}
shift || true
case $verb in
  install | installed | start | stop | status | pid) "$verb" "$@" ;;
  run) tool "$@" ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
