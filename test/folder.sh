# Sourced by the scripts here: clean folders of Debian releases, made by mmdebstrap, and commands in
# them. Their processes share this machine's network and nothing else. All of it takes root.
# shellcheck shell=bash

folders=$(realpath -m "${FOLDERS:-build/folders}")

# What chroot takes, and what this machine needs for folders and for copying the checkout into them.
prepare() {
    if [ "$(id -u)" != 0 ]; then echo "$0: chroot takes root" >&2; exit 1; fi
    test/install-deps folders "$@"
}

# enter FOLDER COMMAND [ARGUMENT...]
enter() {
    local folder=$1
    shift
    # shellcheck disable=SC2016 # $1 and $@ are the inner shell's
    unshare --mount --pid --ipc --fork --kill-child -- bash -c '
        set -e
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        mount -t tmpfs tmpfs "$1/dev/shm"
        exec chroot "$@"' enter "$folder" \
        env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

# make_folder RELEASE FOLDER: once. A mirror that stands still is older than the release's Valid-Until.
make_folder() {
    [ ! -e "$2/.complete" ] || return 0
    rm -rf "$2"
    mkdir -p "$folders"
    mmdebstrap --variant=minbase --include=ca-certificates,make --aptopt='Acquire::Check-Valid-Until "false"' "$1" "$2"
    cp /etc/resolv.conf "$2/etc/"
    touch "$2/.complete"
}

# copy_checkout FOLDER: the files as they are, with their times, so that only what has changed is compiled
# again; and what npm has brought.
copy_checkout() {
    local to=$1/src
    mkdir -p "$to"
    find "$to" \( -path "$to/build" -o -name node_modules \) -prune -o \
        -type f ! -name '*.o' ! -name '*.bc' ! -name '*.d' ! -name '*.so' -exec rm -f {} +
    git ls-files -z --cached --others --exclude-standard |
        tar --null --files-from=- --ignore-failed-read -c | tar -x --no-same-owner -C "$to"
    cp -a --update test/node_modules "$to/test/"
}
