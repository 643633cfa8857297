//! Runs that are interrupted and go on: the same bytes as undisturbed ones.
