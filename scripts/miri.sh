#!/usr/bin/env bash
# `make miri`: unit tests under Miri, which finds undefined behaviour in Rust code. It cannot call C libraries, so only
# tests that need neither libtorch nor libjpeg run: the slots of the loader, resizing with and without SIMD, texts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TESTS=(data::loader::slab preprocess::taps text::words text::path_text)
export MIRIFLAGS=${MIRIFLAGS:--Zmiri-disable-isolation}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri
# AVX2 as on a user's machine: Miri knows its operations.
export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+avx2"
exec env -u LIBTORCH_USE_PYTORCH cargo +nightly miri test --locked --lib -- "${TESTS[@]}" "$@"
