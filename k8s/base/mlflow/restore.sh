# The newest dump, or the one that RESTORE_FROM names, into a database without tables.
set -eu
cd "${BACKUP:-/backup}/databases"
name=${RESTORE_FROM:-$(ls | grep '\.dump$' | sort | tail -n 1)}
if [ ! -f "$name" ]; then
    echo "restore: no dump '$name' in databases/: there are $(ls | tr '\n' ' ')" >&2
    exit 1
fi
tables=$(psql --no-psqlrc --tuples-only --no-align --command \
    "select count(*) from information_schema.tables where table_schema = 'public'")
if [ "$tables" != 0 ]; then
    echo "restore: the database has $tables tables already: restore into an empty one" >&2
    exit 1
fi
pg_restore --dbname="$PGDATABASE" --exit-on-error --single-transaction --no-owner "$name"
echo "restore: $name"
