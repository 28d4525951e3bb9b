#!/usr/bin/env bash
# Initialises an empty PGDATA as the official image does, then becomes the server.
set -euo pipefail

[ "${1:-}" != "" ] && [ "${1#-}" = "$1" ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
for word in "$@"; do
  case $word in
    "-?" | --help | --describe-config | -V | --version) exec "$@" ;;
  esac
done

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres {} +
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$BASH_SOURCE" "$@"
fi

from_file() { # variable: its value may lie in the file that VARIABLE_FILE names
  local file=$1_FILE
  [ -z "${!file:-}" ] || export "$1=$(<"${!file}")"
}

initialise() {
  export POSTGRES_USER=${POSTGRES_USER:-postgres}
  export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
  local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
    echo "Error: Database is uninitialized and superuser password is not specified." >&2
    echo "       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser." >&2
    exit 1
  fi
  # shellcheck disable=SC2086 # several words on purpose
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:-}") --no-sync \
    ${POSTGRES_INITDB_ARGS:-}
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

  # On its socket only, so that nobody takes it for ready.
  shift
  NOTIFY_SOCKET="" pg_ctl -w -o "$(printf '%q ' -c listen_addresses= -p 5432 "$@")" start
  sql=(env PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER")
  if [ "$POSTGRES_DB" != postgres ]; then
    echo 'CREATE DATABASE :"wanted"' | "${sql[@]}" --dbname postgres -v wanted="$POSTGRES_DB"
  fi
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh)
        echo "$0: running $file"
        if [ -x "$file" ]; then "$file"; else . "$file"; fi
        ;;
      *.sql)
        echo "$0: running $file"
        "${sql[@]}" --dbname "$POSTGRES_DB" -f "$file"
        ;;
      *.sql.gz)
        echo "$0: running $file"
        gunzip -c "$file" | "${sql[@]}" --dbname "$POSTGRES_DB"
        ;;
      */\*) ;;
      *) echo "$0: ignoring $file" ;;
    esac
  done
  pg_ctl -m fast -w stop
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

if [ -s "$PGDATA/PG_VERSION" ]; then
  printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
else
  for name in POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB POSTGRES_INITDB_ARGS POSTGRES_HOST_AUTH_METHOD; do
    from_file "$name"
  done
  initialise "$@"
fi
exec "$@"
