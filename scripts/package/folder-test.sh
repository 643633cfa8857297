#!/usr/bin/env bash
# `make dist-test`: unpacks the folder, and uses `tl` where there is nothing else: as root, in a root folder that holds
# glibc and libstdc++ alone, or with BARE=debootstrap in a bare Debian 12.
set -euo pipefail
# shellcheck source=scripts/package/test-common.sh
source "$(dirname "${BASH_SOURCE[0]}")/test-common.sh"

ARCHIVE=$(the_newest 'tl-*-linux.tar.*' dist)
NAME=$(basename "${ARCHIVE%.tar.*}")
BARE=${BARE:-glibc}
NEW=$SCRATCH/root
FOLDER=$NEW/opt/$NAME
mkdir -p "$NEW"

if [[ $BARE == debootstrap ]]; then
    debootstrap --variant=minbase bookworm "$NEW" >"$SCRATCH/log" || fail "debootstrap: $(tail -n 3 "$SCRATCH/log")"
fi
mkdir -p "$NEW"/{opt,proc,tmp}
tar -xf "$ARCHIVE" -C "$NEW/opt"
ok "unpacked $(basename "$ARCHIVE"): $(du -sm "$FOLDER" | cut -f 1) MB"

# Of the machine, only glibc, its loader and libstdc++ are used.
outside=$(env -u LD_LIBRARY_PATH ldd "$FOLDER/bin/tl" | awk -v own="$NEW/" '
    /not found/ { print; next }
    index($3, own) != 1 && $1 !~ /^(linux-vdso|libc|libm|libdl|libpthread|librt|libutil|libstdc\+\+|libgcc_s)[-.]/ && $0 !~ /ld-linux/ { print $1 " " $3 }')
expect "" "$outside"
ok "every library but those of glibc and GCC comes from the folder"
[[ $(readelf -d "$FOLDER/bin/tl") == *'[$ORIGIN/../torch/lib:$ORIGIN/../lib]'* ]] || fail "$(readelf -d "$FOLDER/bin/tl" | grep PATH)"
for file in share/man/man1/tl.1 share/bash-completion/completions/tl licences/THIRD-PARTY.txt licences/LICENSE-MIT README.txt; do
    [[ -s $FOLDER/$file ]] || fail "there is no $file in the folder"
done
ls "$FOLDER"/licences/torch-*-LICENSE >/dev/null || fail "the licence of PyTorch is not in the folder"
ok "manual, completions and licences are there"

recipe "/opt/$NAME" >"$NEW/tmp/recipe.yaml"
if [[ $BARE == glibc ]]; then
    # Of each library that the folder leaves to the system, and the loader, the machine's.
    env -u LD_LIBRARY_PATH ldd "$FOLDER/bin/tl" | grep -oE '/[^ ]+' | sort -u | while read -r library; do
        [[ $library == "$NEW"/* ]] || install -D "$(realpath "$library")" "$NEW$library"
    done
fi

# The program looks at /proc, which needs a mount, and so root or a namespace of a user's own.
ENTER=(unshare --mount --pid --fork)
[[ $(id -u) == 0 ]] || ENTER+=(--user --map-root-user)
inside() {
    # shellcheck disable=SC2016
    "${ENTER[@]}" sh -c 'mount -t proc proc "$1/proc" && shift && exec env -i HOME=/tmp PATH=/usr/sbin:/sbin:/usr/bin:/bin chroot "$@"' sh "$NEW" "$NEW" "$@" 2>&1
}
if ! reason=$("${ENTER[@]}" mount -t proc proc "$NEW/proc" 2>&1); then
    echo "skipped: running it in a root folder of its own, as this user may not mount ($reason)"
    exit
fi

contains "/opt/$NAME/lib" "$(inside "/opt/$NAME/bin/tl" doctor)"
ok "doctor, where there is nothing else ($BARE)"
inside "/opt/$NAME/bin/tl" finetune /tmp/recipe.yaml --out /tmp/run --quiet
contains '"method": "linear"' "$(<"$NEW/tmp/run/report.json")"
ok "finetune"
mv "$FOLDER" "$NEW/tmp/moved"
ln -s /tmp/moved/bin/tl "$NEW/opt/tl"
contains "label" "$(inside /opt/tl predict --model /tmp/run /tmp/moved/data/samples)"
ok "predict, from a moved folder, through a link"
