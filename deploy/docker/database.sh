#!/bin/sh
# Run once by the image postgres when it makes its data: a role that owns its database and nothing else.
set -eu
password=$(cat /run/secrets/database_password)
psql --quiet --set ON_ERROR_STOP=1 --set password="$password" <<'SQL'
CREATE ROLE storyloop LOGIN PASSWORD :'password';
CREATE DATABASE storyloop OWNER storyloop;
SQL
