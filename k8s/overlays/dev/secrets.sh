# Makes database.env and s3.env with secrets of this cluster's own; those that are there stay.
set -eu
umask 077
cd "$(dirname "$0")"
secret() { python3 -c 'import secrets; print(secrets.token_urlsafe(24))'; }
[ -e database.env ] || echo "password=$(secret)" > database.env
[ -e s3.env ] || {
    echo "AWS_ACCESS_KEY_ID=$(secret)"
    echo "AWS_SECRET_ACCESS_KEY=$(secret)"
} > s3.env
