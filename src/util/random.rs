//! The source of all randomness: a seed, and the name of the draw.

use sha2::{Digest, Sha256};

/// 63 bits that depend on both the seed and a name; the sign bit stays clear for libtorch's `i64`
/// seeds.
pub fn seed_of(seed: u64, name: &str) -> i64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name.as_bytes()).finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    i64::from_le_bytes(bytes) & i64::MAX
}
