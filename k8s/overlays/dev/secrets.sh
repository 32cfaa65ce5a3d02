# Makes database.env and s3.env with secrets of this cluster's own; those that are there stay.
set -eu
umask 077
cd "$(dirname "$0")"
secret() { python3 -c 'import secrets; print(secrets.token_urlsafe(24))'; }
[ -e database.env ] || echo "password=$(secret)" > database.env
[ -e s3.env ] || printf 'AWS_ACCESS_KEY_ID=facewright\nAWS_SECRET_ACCESS_KEY=%s\n' "$(secret)" > s3.env
