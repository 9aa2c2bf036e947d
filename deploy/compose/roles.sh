#!/usr/bin/env bash
# Makes the two roles of deploy/roles.sql, with the passwords that stand in their DSNs (letters, digits, - and _ only).
set -euo pipefail
secrets=${SECRETS:-/run/secrets}

psql --no-psqlrc --quiet --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" \
  --set=owner=stockrelay_owner --set=daemon=stockrelay --set=table_owner=erp --set=schemas=erp \
  --set=watched='erp.stock, erp.products' --set=listed='erp.stock, erp.products' \
  --file="${ROLES:-/etc/stockrelay/roles.sql}"

# Through psql's input: what stands in a command line can be read by every process.
for role in owner:stockrelay_owner daemon:stockrelay; do
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<SQL
\set password \`cut -d: -f3 '$secrets/${role%%:*}_dsn' | cut -d@ -f1\`
ALTER ROLE ${role#*:} PASSWORD :'password';
SQL
done
