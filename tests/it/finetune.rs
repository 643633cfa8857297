//! `tl finetune` end to end: each method, the run folder, the report, bad data.
