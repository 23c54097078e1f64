#!/bin/sh
# Backs up a running Vivace:   backup.sh BLOCKS WAL TARGET
#
# BLOCKS is storage.trace.local.path, WAL is storage.trace.wal.path, TARGET a new directory on the file system of BLOCKS.
# TARGET/blocks shares the bytes of the blocks by hard links: it costs no room until retention deletes them, and lasts
# beyond that. TARGET/wal is a copy. It holds every span that was acknowledged before the start. Take it elsewhere (rsync,
# restic), then delete it. To restore: docs/operating.md.
set -eu

blocks=$1
wal=$2
target=$3
tries=20 # a busy server cuts a block every few seconds, a try takes less than one

# Blocks are complete when they have their name, and never change under it: `.tmp` and `.deleted` are neither.
list() {
    (cd "$blocks" && find . -mindepth 2 -maxdepth 2 -type d ! -name '*.tmp' ! -name '*.deleted' | sort)
}

# First the WAL, then the blocks: a span on its way from one to the other is in both, and a start leaves the copy out. That
# holds if no block came or went meanwhile; else again.
try() {
    rm -rf "$target/blocks" "$target/wal"
    mkdir -p "$target/blocks" "$target/wal"
    list > "$target/before"
    for segment in "$wal"/*.wal; do
        # one that is gone has become a block
        cp -p "$segment" "$target/wal/" 2> /dev/null || [ ! -e "$segment" ] || return 1
    done
    while read -r block; do
        mkdir -p "$target/blocks/${block%/*}"
        cp -al "$blocks/$block" "$target/blocks/$block" 2> /dev/null || return 1
    done < "$target/before"
    list > "$target/after"
    cmp -s "$target/before" "$target/after"
}

for directory in "$blocks" "$wal"; do
    [ -d "$directory" ] || { echo "backup.sh: there is no directory $directory" >&2; exit 1; }
done
mkdir "$target"
until try; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || {
        echo "backup.sh: blocks of $blocks come and go faster than they can be linked; try again at a quieter time" >&2
        rm -rf "$target"
        exit 1
    }
    sleep 1
done
echo "$(wc -l < "$target/before") blocks, $(find "$target/wal" -name '*.wal' | wc -l) WAL segments in $target"
rm "$target/before" "$target/after"
