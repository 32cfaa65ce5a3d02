# The database into the backup volume, whole or not at all; the newest 14 stay.
set -eu
cd "${BACKUP:-/backup}"
mkdir -p databases
trap 'rm -f databases/.partial-*' EXIT
rm -f databases/.partial-*
name=$(date -u +%Y-%m-%dT%H%M%SZ).dump
pg_dump --format=custom --file="databases/.partial-$name"
mv "databases/.partial-$name" "databases/$name"
ls databases | grep '\.dump$' | sort | head -n -14 | while read -r old; do rm "databases/$old"; done
echo "dump: databases/$name, $(wc -c < "databases/$name") bytes"
