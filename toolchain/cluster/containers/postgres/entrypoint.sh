#!/bin/sh
# Makes the database at the first start, then becomes the server. As the official image does, it reads
# POSTGRES_USER, POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE), POSTGRES_DB and PGDATA.
set -eu
if [ "${1:-}" != postgres ]; then exec "$@"; fi
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -z "${POSTGRES_PASSWORD:-}" ]; then
    echo "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE: the new database needs a password for $user" >&2
    exit 1
  fi
  # A start that was killed half-way leaves a folder that initdb refuses; this one becomes whole at once.
  new=$PGDATA/.new
  mkdir -p "$PGDATA" && chmod 0700 "$PGDATA"
  rm -rf "$new" && mkdir "$new"
  printf '%s' "$POSTGRES_PASSWORD" > "$PGDATA/.password"
  initdb --pgdata "$new" --username "$user" --pwfile "$PGDATA/.password" --encoding UTF8 \
    --auth-local trust --auth-host scram-sha-256 > /dev/null
  rm "$PGDATA/.password"
  echo "host all all all scram-sha-256" >> "$new/pg_hba.conf"
  if [ "$database" != postgres ]; then
    pg_ctl --pgdata "$new" --silent --wait start --options "-c listen_addresses='' -c unix_socket_directories=/tmp"
    createdb --host /tmp --username "$user" "$database"
    pg_ctl --pgdata "$new" --silent --wait --mode fast stop
  fi
  for file in "$new"/*; do [ "${file##*/}" = PG_VERSION ] || mv "$file" "$PGDATA/"; done
  mv "$new/PG_VERSION" "$PGDATA/" && rmdir "$new"
fi
shift
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
