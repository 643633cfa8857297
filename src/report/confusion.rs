//! The confusion matrix as a picture.

use crate::inference::explain::HeatMap;
use crate::preprocess::RgbImage;
use crate::stats::metrics::Confusion;

/// The side of a picture, in pixels, unless there are more classes.
const SIDE: usize = 320;

/// A square for each true class (from the top) and predicted class (from the left), the brighter the
/// larger the share of the true class's images.
pub fn confusion_picture(confusion: &Confusion) -> RgbImage {
    let matrix = confusion.matrix();
    let share = |row: &Vec<u64>| {
        let total = row.iter().sum::<u64>().max(1) as f32;
        row.iter().map(|&count| count as f32 / total).collect::<Vec<f32>>()
    };
    let classes = matrix.len();
    let map = HeatMap { width: classes, height: classes, values: matrix.iter().flat_map(share).collect() };
    map.picture((SIDE / classes.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_all_right_is_a_bright_diagonal() {
        let mut confusion = Confusion::new(2);
        for (truth, prediction) in [(0, 0), (0, 0), (1, 0), (1, 1)] {
            confusion.add(truth, prediction);
        }
        let picture = confusion_picture(&confusion);
        assert_eq!((picture.width, picture.height), (320, 320));
        let at = |row: usize, column: usize| picture.data[(row * 320 + column) * 3..][..3].to_vec();
        assert_eq!(
            (at(0, 0), at(159, 159), at(0, 160)),
            (vec![252, 255, 164], vec![252, 255, 164], vec![0, 0, 4])
        );
        assert_eq!(at(160, 0), at(319, 319), "half of each");
        assert_ne!(at(160, 0), at(0, 0));
    }
}
