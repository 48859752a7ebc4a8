#!/usr/bin/env bash
# A real PostgreSQL 17 with TimescaleDB (Apache-2 build) and pgvector for development and tests, on a Debian host.
#
#   postgres.sh install                    build the private Debian trixie root
#   postgres.sh start [PORT] [DATADIR]     installs and runs initdb when needed; returns when ready, prints the URL
#   postgres.sh stop [DATADIR | --all]     no argument: the one that runs; refuses when several of this cache do
#   postgres.sh status | url [DATADIR] | psql [ARGS] | exec CMD [ARGS] | uninstall
#
# Each verb may be repeated: what is done already is not done again, and is no error.
#
# The host's own packages stay as they are: the server lives in a debootstrap'ed trixie root and runs under
# chroot in a private mount namespace; it listens on 127.0.0.1 of the host and keeps its data in DATADIR.
# psql/exec run the root's own (version 17) clients as superuser: an older pg_dump of the host refuses a 17 server.
# They see the root's files, not the host's: feed them by standard input.
#
# Environment (defaults):
#   MILLRACE_CACHE (/var/cache/millrace)   root and state, in its postgres/; outside any clone. Each folder on the
#                     way to it must be open to the server's own user (so nothing below a home folder of mode 0700)
#   POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD (app)   superuser "postgres" gets the same password
#   POSTGRES_EXTRA ()   further postgresql.conf lines, newline separated (they win)
#   DEBIAN_MIRROR (the host's own)
# shellcheck disable=SC2016
set -euo pipefail
umask 022

SUITE=trixie PGV=17
PKGS="postgresql-17 postgresql-17-timescaledb postgresql-17-pgvector tzdata-legacy"
EXTS="timescaledb vector"
LAYOUT=1                      # raise it to make `install` build the root anew
PGUID=9432                    # an id that no host user has: the data folder is its own alone

HOME_DIR=$(realpath -m "${MILLRACE_CACHE:-/var/cache/millrace}/postgres")
DB=${POSTGRES_DB:-app} APP=${POSTGRES_USER:-app} PASS=${POSTGRES_PASSWORD:-app}
ROOT=$HOME_DIR/root RUN=$HOME_DIR/run
BIN=/usr/lib/postgresql/$PGV/bin
SOCK=/run/millrace            # inside the root, mode 0700; TCP is what clients use
DEFAULT_PORT=55432 DEFAULT_DATA=$HOME_DIR/data

say() { printf 'postgres.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
lock() { mkdir -p "$HOME_DIR" "$RUN"; exec 9>"$HOME_DIR/lock"; flock -w 900 9 || die "lock $HOME_DIR/lock is held"; }
can_mount() { unshare --mount mount -t proc proc /proc 2>/dev/null; }

require() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then return; fi
  die "this needs root on a Debian host (debootstrap, chroot). Elsewhere take any PostgreSQL 17 with pgvector, and with
  TimescaleDB 2.19 or later if you want hypertables, such as the one in docker-compose.yml, and give its URL."
}

# ---------------------------------------------------------------- install
mirror() {
  if [ -n "${DEBIAN_MIRROR:-}" ]; then echo "$DEBIAN_MIRROR"; return; fi
  local m
  m=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
      awk '$3=="main" && $2 ~ /^(bookworm|trixie|stable)$/ {print $1; exit}') || true
  m=${m%/}
  [ -n "$m" ] || die "no Debian mirror is configured for apt: set DEBIAN_MIRROR"
  echo "$m"
}

in_tmp_root() {               # run in the root being built, with /proc and /dev where mounting is allowed
  local sh='r=$1; shift
    if [ "$M" = 1 ]; then mount -t proc proc "$r/proc"; mount --rbind /dev "$r/dev"; fi
    exec chroot "$r" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive http_proxy="${http_proxy:-}" "$@"'
  if can_mount; then M=1 unshare --mount bash -ec "$sh" _ "$@"; else M=0 bash -ec "$sh" _ "$@"; fi
}

install_root() {
  local want="$LAYOUT $SUITE $PKGS"
  if [ "$(cat "$ROOT/.millrace" 2>/dev/null || true)" = "$want" ]; then return; fi
  require
  local t0=$SECONDS log=$HOME_DIR/install.log tmp=$ROOT.tmp m p f
  for f in "$RUN"/*; do
    if [ -f "$f" ] && running "$(cat "$f")"; then die "the root is out of date, and $(cat "$f") runs from it: stop it first"; fi
  done
  : >"$log"
  say "building the $SUITE root in $ROOT (log: $log)"
  trap 'say "install failed; last lines of $HOME_DIR/install.log:"; tail -n 15 "$HOME_DIR/install.log" >&2' EXIT
  # keyrings of the first bookworm releases lack trixie's keys
  if ! command -v debootstrap >/dev/null || [ ! -e /usr/share/debootstrap/scripts/$SUITE ] ||
     [ ! -e /usr/share/keyrings/debian-archive-$SUITE-stable.gpg ]; then
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        debootstrap debian-archive-keyring; } >>"$log" 2>&1 </dev/null
  fi
  m=$(mirror)
  eval "$(apt-config shell p Acquire::http::Proxy)" || true
  if [ -n "${p:-}" ] && [ "$p" != DIRECT ]; then export http_proxy=${http_proxy:-$p}; fi
  rm -rf --one-file-system "$tmp"
  mkdir -p "$tmp"
  if can_mount; then    # its mounts die with it
    unshare --mount debootstrap --variant=minbase "$SUITE" "$tmp" "$m" >>"$log" 2>&1 </dev/null
  else
    debootstrap --variant=minbase "$SUITE" "$tmp" "$m" >>"$log" 2>&1 </dev/null
  fi
  # no service start, no default cluster, no waiting on the disk, nothing that a server does not need
  printf '#!/bin/sh\nexit 101\n' >"$tmp/usr/sbin/policy-rc.d"; chmod 755 "$tmp/usr/sbin/policy-rc.d"
  mkdir -p "$tmp/etc/postgresql-common"
  echo 'create_main_cluster = false' >"$tmp/etc/postgresql-common/createcluster.conf"
  printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/man/*' \
    'path-exclude=/usr/share/locale/*/LC_MESSAGES/*' 'path-exclude=/usr/share/i18n/*' >"$tmp/etc/dpkg/dpkg.cfg.d/millrace"
  printf '%s\n' 'APT::Install-Recommends "0";' 'Acquire::Languages "none";' 'Acquire::Retries "3";' \
    >"$tmp/etc/apt/apt.conf.d/99millrace"
  cp -L /etc/resolv.conf "$tmp/etc/resolv.conf" 2>/dev/null || true
  cp -L /etc/hosts "$tmp/etc/hosts" 2>/dev/null || true
  echo "postgres:x:$PGUID:" >>"$tmp/etc/group"
  echo "postgres:x:$PGUID:$PGUID:PostgreSQL:/var/lib/postgresql:/bin/bash" >>"$tmp/etc/passwd"
  in_tmp_root "$tmp" apt-get update >>"$log" 2>&1 </dev/null
  # shellcheck disable=SC2086
  in_tmp_root "$tmp" apt-get install -y $PKGS >>"$log" 2>&1 </dev/null
  # shellcheck disable=SC2086
  in_tmp_root "$tmp" dpkg-query -W -f '${Package} ${Version}\n' $PKGS >"$tmp/.millrace-versions"
  rm -rf "$tmp"/var/cache/apt/* "$tmp"/var/lib/apt/lists/* "$tmp"/usr/share/{doc,man,i18n}/* "$tmp"/usr/share/locale/*
  install -d -m 0700 -o $PGUID -g $PGUID "$tmp$SOCK"
  echo "$want" >"$tmp/.millrace"
  if [ -d "$ROOT/millrace-data" ]; then mv "$ROOT/millrace-data" "$tmp/"; fi
  rm -rf --one-file-system "$ROOT"
  mv "$tmp" "$ROOT"
  trap - EXIT
  say "installed in $((SECONDS - t0)) s: $(tr '\n' ',' <"$ROOT/.millrace-versions")"
}

# ---------------------------------------------------------------- running things in the root
# inside DATA CMD...: as the postgres user, in the root; DATA (if any) is bound to the same path inside. Where
# mounting is not allowed (a container without CAP_SYS_ADMIN) DATA lies in the root, and the host's DATADIR is
# a link to it. `inpath DATA` tells its path inside.
inpath() { if can_mount; then echo "$1"; else echo "${1#"$ROOT"}"; fi; }
inside() {
  local data=$1; shift
  local sh='r=$1 d=$2 u=$3; shift 3
    if [ "$M" = 1 ]; then
      mount -t proc proc "$r/proc"; mount --rbind /dev "$r/dev"
      if [ -n "$d" ]; then mkdir -p "$r$d"; mount --bind "$d" "$r$d"; fi
    fi
    cd /
    exec chroot --userspec=$u:$u --groups=$u "$r" /usr/bin/env -i PATH='"$BIN"':/usr/bin:/bin \
      HOME=/tmp LC_ALL=C.UTF-8 TZ=UTC PGHOST='"$SOCK"' PGPORT="${IN_PORT:-5432}" PGUSER=postgres PGDATABASE="${IN_DB:-postgres}" "$@"'
  # 9>&- : else the server would keep this script's lock
  if can_mount; then M=1 unshare --mount bash -ec "$sh" _ "$ROOT" "$data" $PGUID "$@" 9>&-
  else M=0 bash -ec "$sh" _ "$ROOT" "$data" $PGUID "$@" 9>&-; fi
}

abspath() { realpath -m "$1"; }
key() { printf %s "$1" | sha1sum | cut -c1-16; }
running() { [ -s "$1/postmaster.pid" ] && inside "$1" pg_ctl -D "$(inpath "$1")" status >/dev/null 2>&1; }
port_of() { sed -n 4p "$1/postmaster.pid"; }
url_of() { echo "postgresql://$APP:$PASS@127.0.0.1:$1/$DB"; }
last_data() {                 # the server started last
  local f
  # shellcheck disable=SC2012
  f=$(ls -t "$RUN" 2>/dev/null | head -n 1)
  if [ -n "$f" ]; then cat "$RUN/$f"; else echo "$DEFAULT_DATA"; fi
}

prepare_data() {              # prints the folder that is really used
  local data=$1 d
  if ! can_mount && [ "${data#"$ROOT/millrace-data/"}" = "$data" ]; then
    [ ! -e "$data" ] || rmdir "$data" 2>/dev/null || die "$data holds data, and mounting is not allowed here"
    d=$ROOT/millrace-data/$(key "$data")
    mkdir -p "$(dirname "$data")" "$ROOT/millrace-data"; ln -s "$d" "$data"; data=$d
  fi
  if [ -e "$data.initializing" ]; then        # an initdb of ours was cut short: nothing of worth in there
    find "$data/" -mindepth 1 -delete; rm -f "$data.initializing"
  fi
  mkdir -p "$data"
  if [ -z "$(ls -A "$data/")" ]; then chown $PGUID:$PGUID "$data"; chmod 700 "$data"; fi
  echo "$data"
}

configure() {
  local data=$1 port=$2
  cat >"$data/millrace.conf" <<CONF
# written by postgres.sh at each start; ALTER SYSTEM wins over it
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$SOCK'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
timescaledb.max_background_workers = 8
max_worker_processes = 20
max_connections = 100
shared_buffers = 512MB
maintenance_work_mem = 512MB
work_mem = 32MB
max_wal_size = 4GB
random_page_cost = 1.1
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d '
${POSTGRES_EXTRA:-}
CONF
  chown $PGUID:$PGUID "$data/millrace.conf"; chmod 600 "$data/millrace.conf"
}

start() {
  local port=${1:-$DEFAULT_PORT} data
  data=$(abspath "${2:-$DEFAULT_DATA}")
  require
  [[ $port =~ ^[0-9]+$ && $port -ge 1 && $port -le 65535 ]] || die "not a port: $port"
  [[ $DB$APP =~ ^[a-zA-Z0-9_]+$ ]] || die "POSTGRES_DB and POSTGRES_USER: letters, digits and _ only"
  lock
  install_root
  data=$(prepare_data "$data")
  if running "$data"; then
    [ "$(port_of "$data")" = "$port" ] || die "already running on port $(port_of "$data"): $data"
    echo "$data" >"$RUN/$(key "$data")"; provision "$port"; say "already running"; url_of "$port"; return
  fi
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then die "port $port is taken"; fi
  if [ ! -e "$data/PG_VERSION" ]; then
    [ -z "$(ls -A "$data/")" ] || die "$data is neither empty nor a PostgreSQL data folder"
    : >"$data.initializing"
    inside "$data" initdb -D "$(inpath "$data")" -U postgres --encoding=UTF8 --locale-provider=builtin \
      --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 >"$HOME_DIR/initdb.log" 2>&1 </dev/null ||
      { cat "$HOME_DIR/initdb.log" >&2; die "initdb failed"; }
    echo "include_if_exists = 'millrace.conf'" >>"$data/postgresql.conf"
    rm -f "$data.initializing"
  fi
  [ "$(cat "$data/PG_VERSION")" = $PGV ] || die "$data is of PostgreSQL $(cat "$data/PG_VERSION"), not $PGV"
  configure "$data" "$port"
  inside "$data" pg_ctl -D "$(inpath "$data")" -l "$(inpath "$data")/server.log" -w -t 120 start >/dev/null </dev/null ||
    { tail -n 20 "$data/server.log" >&2; die "the server did not start"; }
  echo "$data" >"$RUN/$(key "$data")"
  provision "$port"
  url_of "$port"
}

provision() {                 # user, database, extensions; then one query as the user over TCP
  local e sql
  sql="select format('create role %I login createdb', '$APP') where not exists (select from pg_roles where rolname = '$APP') \gexec
select format('alter role %I password %L', r, :'pass') from unnest(array['postgres', '$APP']) r \gexec
select format('create database %I owner %I', '$DB', '$APP') where not exists (select from pg_database where datname = '$DB') \gexec
\connect $DB
"
  for e in $EXTS; do sql+="create extension if not exists $e;
"; done
  printf '%s' "$sql" | IN_PORT=$1 inside "" psql -X -q -v ON_ERROR_STOP=1 -v pass="$PASS" >/dev/null 2>"$HOME_DIR/provision.log" ||
    { cat "$HOME_DIR/provision.log" >&2; die "could not create user, database or extensions"; }
  inside "" env PGPASSWORD="$PASS" psql -X -q -At -h 127.0.0.1 -p "$1" -U "$APP" -d "$DB" -c 'select 1' >/dev/null ||
    die "not reachable on 127.0.0.1:$1"
}

stop_one() {
  local data=$1
  if [ -x "$ROOT$BIN/pg_ctl" ] && running "$data"; then
    inside "$data" pg_ctl -D "$(inpath "$data")" -m fast -w -t 120 stop >/dev/null; say "stopped: $data"
  fi
  rm -f "$RUN/$(key "$data")"
}

stop() {
  lock
  local f d up=()
  if [ $# -gt 0 ] && [ "$1" != --all ]; then stop_one "$(abspath "$1")"; return; fi
  for f in "$RUN"/*; do
    [ -f "$f" ] || continue
    d=$(cat "$f")
    if running "$d"; then up+=("$d"); else rm -f "$f"; fi
  done
  [ ${#up[@]} -le 1 ] || [ "${1:-}" = --all ] || die "several are running; name a DATADIR, or --all: ${up[*]}"
  for d in ${up[@]+"${up[@]}"}; do stop_one "$d"; done
}

status() {
  local f d rc=3
  if [ -e "$ROOT/.millrace-versions" ]; then cat "$ROOT/.millrace-versions"; else echo "not installed"; fi
  for f in "$RUN"/*; do
    [ -f "$f" ] || continue
    d=$(cat "$f")
    if running "$d"; then echo "running: $(url_of "$(port_of "$d")") pid $(head -n 1 "$d/postmaster.pid") data $d"; rc=0
    else echo "down: $d"; fi
  done
  return $rc
}

client() {                    # client DB CMD...: in the root, against the server started last
  local data db=$1; shift; data=$(last_data)
  running "$data" || die "not running: $data"
  IN_PORT=$(port_of "$data") IN_DB=$db inside "" "$@"
}

case ${1:-} in
  install) lock; install_root; cat "$ROOT/.millrace-versions" ;;
  start) shift; start "$@" ;;
  stop) shift; stop "$@" ;;
  status) status ;;
  url) d=$(abspath "${2:-$(last_data)}"); running "$d" || die "not running: $d"; url_of "$(port_of "$d")" ;;
  psql) shift; client "$DB" psql -X "$@" ;;
  exec) shift; client "$DB" "$@" ;;
  uninstall) stop --all; rm -rf --one-file-system "$ROOT" "$ROOT.tmp" ;;
  *) sed -n '2,/^set/{/^set/d;/shellcheck/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
