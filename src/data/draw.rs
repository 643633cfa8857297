//! Random subsets of images.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::util::random::seed_of;

/// A seeded sample of `count` images without replacement, `most` at most, in random order. `what`
/// separates it from other draws of the same seed.
pub(crate) fn draw(count: usize, most: usize, seed: u64, what: &str) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed_of(seed, what) as u64);
    let mut indices: Vec<usize> = (0..count).collect();
    let wanted = count.min(most);
    for place in 0..wanted {
        let left = (count - place) as u64;
        indices.swap(place, place + (generator.next_u64() % left) as usize);
    }
    indices.truncate(wanted);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_seeded_and_has_no_image_twice() {
        let mut drawn = draw(1000, 200, 3, "similarity");
        assert_eq!(drawn, draw(1000, 200, 3, "similarity"));
        assert_ne!(drawn, draw(1000, 200, 4, "similarity"));
        assert_eq!(drawn.len(), 200);
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 200);
        assert_eq!(draw(3, 200, 0, "similarity").len(), 3);
    }
}
