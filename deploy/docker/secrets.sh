#!/bin/sh
# Writes the secrets that compose.yaml mounts, those that are not there yet. Run it once: sh deploy/docker/secrets.sh
set -eu
cd "$(dirname "$0")/secrets"
chmod 700 .
new() {
    # readable by the containers' users: nobody else gets into this folder
    [ -s "$1" ] || { tr -dc 'A-Za-z0-9' < /dev/urandom | head -c "$2" > "$1"; chmod 444 "$1"; echo "made $1"; }
}
new secret_key 60
new metrics_token 40
new postgres_password 40
new database_password 40
new redis_password 40
new vllm_api_key 40
[ -s database_url ] || printf 'postgres://storyloop:%s@postgres/storyloop' "$(cat database_password)" > database_url
[ -s broker_url ] || printf 'redis://:%s@redis:6379/0' "$(cat redis_password)" > broker_url
chmod 444 database_url broker_url
