#!/usr/bin/env bash
# fuzz/run.sh SECONDS [TARGET...]: builds the targets with AddressSanitizer, libjpeg's C included, and runs each of them
# (all, unless some are named) for so long, one after the other. Needs a nightly Rust and `cargo install cargo-fuzz`.
# What a target finds lies in fuzz/artifacts/TARGET; corpora are kept in fuzz/corpus for the next time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

SECONDS_EACH=${1:?fuzz/run.sh SECONDS [TARGET...]}
shift
(($# > 0)) || set -- $(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' Cargo.toml)

# The compiler of C code, with the sanitizer for libjpeg and tl's own C++ alone: other crates' C is also linked into
# build scripts, which have no sanitizer.
mkdir -p target
for compiler in cc c++; do
    cat >"target/$compiler" <<SH
#!/bin/sh
case "\$PWD \$*" in *mozjpeg*|*fused.cpp*|*shim.cpp*) set -- -fsanitize=address -fno-omit-frame-pointer "\$@" ;; esac
exec $compiler "\$@"
SH
    chmod +x "target/$compiler"
done
export CC=$PWD/target/cc CXX=$PWD/target/c++

# libtorch is built without the sanitizer: its containers must not be checked.
export ASAN_OPTIONS=detect_container_overflow=0:detect_odr_violation=0:detect_leaks=0:allocator_may_return_null=1
LIBTORCH=${LIBTORCH:-$(sed -n 's/^LIBTORCH *= *"\(.*\)"/\1/p' ../.cargo/config.toml)}
export LIBTORCH LD_LIBRARY_PATH=$LIBTORCH/lib

[[ -d corpus ]] || (cd .. && TL_FUZZ=0 TL_FUZZ_SEEDS=fuzz/corpus make test TESTS=fuzz::)
cargo +nightly fuzz build --sanitizer address
for target; do
    mkdir -p "corpus/$target" "artifacts/$target"
    printf '=== %s\n' "$target"
    # A finding ends its target, not the others.
    cargo +nightly fuzz run --sanitizer address "$target" -- -max_total_time="$SECONDS_EACH" \
        -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=512 -print_final_stats=1 -verbosity=1 || true
done
