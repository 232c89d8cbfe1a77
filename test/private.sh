# Sourced by the scripts here: where the private PostgreSQL is, and how to run it without root.
# PostgreSQL refuses to run as root, so root lends itself Debian's `postgres` user.
# shellcheck shell=bash

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
pg_config=${PG_CONFIG:-pg_config}
umask 022

if [ "$(id -u)" = 0 ]; then
    server_user=postgres
    as_server_user() {
        setpriv --reuid="$server_user" --regid="$server_user" --clear-groups \
            env HOME=/tmp USER="$server_user" LOGNAME="$server_user" "$@"
    }
else
    server_user=$(id -un)
    as_server_user() { "$@"; }
fi

# A new directory of the server's user, short enough for a socket's path.
new_server_dir() {
    local dir
    dir=$(mktemp -d /tmp/pg_twilio.XXXXXX)
    [ "$(id -u)" != 0 ] || chown "$server_user:" "$dir"
    echo "$dir"
}

# find_readable_tree DIR [PART...] sets `tree` to a directory with build/pg and other parts of the checkout
# that the server's user can read: the checkout, or, where that is in somebody's private directory, a
# copy in DIR (of links where it can be, so that it costs nothing).
find_readable_tree() {
    local dir=$1 part
    shift
    tree=$checkout
    if ! as_server_user test -r "$checkout/build/pg/.copied" -a -r "$checkout/test/cluster"; then
        tree=$dir/tree
        for part in build/pg "$@"; do
            [ -e "$checkout/$part" ] && [ ! -e "$tree/$part" ] || continue
            mkdir -p "$(dirname "$tree/$part")"
            cp -al "$checkout/$part" "$tree/$part" 2>/dev/null ||
                { rm -rf "${tree:?}/$part" && cp -a "$checkout/$part" "$tree/$part"; }
        done
        chmod -R a+rX "$tree"
    fi
    bindir=$tree/build/pg$(readlink -f "$("$pg_config" --bindir)")
}
