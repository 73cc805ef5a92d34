//! Stores on real filesystems: killed at each operation, on a full disk, and beside others.
//!
//! `cargo test --test store`. Most tests record events that a seed generates (`store_load`), so
//! each event is known. The long versions:
//!
//! ```sh
//! PMON_STORE_SECONDS=60 cargo test --release --test store -- full_disk
//! PMON_STORE_SECONDS=600 cargo test --release --test store -- fast_motion
//! PMON_STORE_SECONDS=120 cargo test --release --test store -- clips
//! ```

mod clips;
mod fast_motion;
mod full_disk;
mod kills;
mod limits;
mod load;
mod openings;
mod private_tmpfs;
