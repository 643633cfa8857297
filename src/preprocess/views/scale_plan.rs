//! What is resized for the views of an image at one scale, and where they lie in it.

use std::ops::Range;

use super::Window;
use crate::preprocess::fit::{Place, before};
use crate::preprocess::resize::{Target, rectangle};
use crate::preprocess::{Preprocessing, RgbImage, central_window};

/// The targets to resize at one scale, and the crops to cut out of them.
pub(super) struct ScalePlan {
    preprocessing: Preprocessing,
    pub(super) targets: Vec<Target>,
    crops: Vec<Crop>,
}

/// A crop: the part that contains it, and its upper left corner there.
struct Crop {
    part: usize,
    left: u32,
    top: u32,
    /// Margins before it, where the image ends.
    place: Place,
    upright: bool,
    mirrored: bool,
}

impl ScalePlan {
    pub(super) fn centre(preprocessing: Preprocessing, image: (u32, u32), scale: u32) -> Self {
        let (target, place) = preprocessing.fit_target(image, scale);
        let crops = vec![Crop { part: 0, left: 0, top: 0, place, upright: true, mirrored: false }];
        ScalePlan { preprocessing, targets: vec![target], crops }
    }

    /// The corners and the centre of an image that is resized to `scale`.
    pub(super) fn ten_crop(preprocessing: Preprocessing, image: (u32, u32), scale: u32) -> Self {
        let size = preprocessing.resized(image, scale);
        let frame = preprocessing.frame(image, scale);
        let [columns, rows] = [frame.0, frame.1].map(|size| Axis::new(size, preprocessing.crop_size));
        let corners = [0, rows.last].into_iter().flat_map(|top| [(0, top), (columns.last, top)]);
        let mut wanted: Vec<(u64, u64, bool, bool)> =
            corners.map(|(left, top)| (left, top, true, true)).collect();
        // The mirrored image's central crop is the mirrored central crop, unless an odd number of
        // columns is left out: then the same half is rounded from the other side.
        let there_and_back = columns.centre == columns.mirrored;
        wanted.push((columns.centre, rows.centre, true, there_and_back));
        if !there_and_back {
            wanted.push((columns.mirrored, rows.centre, false, true));
        }
        let target = |columns: Range<u64>, rows: Range<u64>| Target {
            region: rectangle(image, 0, 0, image.0, image.1),
            size,
            columns,
            rows,
            interpolation: preprocessing.interpolation,
        };
        if frame != size {
            // Margins take no more memory than the crops: the image is one part.
            let (first, length) = ((before(frame.0, size.0), before(frame.1, size.1)), size);
            let inside = |(left, top, upright, mirrored): (u64, u64, bool, bool)| Crop {
                part: 0,
                left: left.saturating_sub(first.0) as u32,
                top: top.saturating_sub(first.1) as u32,
                place: (first.0.saturating_sub(left) as usize, first.1.saturating_sub(top) as usize),
                upright,
                mirrored,
            };
            let targets = vec![target(0..length.0, 0..length.1)];
            return ScalePlan { targets, crops: wanted.into_iter().map(inside).collect(), preprocessing };
        }
        let mut parts: Vec<(usize, usize)> = Vec::new();
        let mut crops = Vec::new();
        for (left, top, upright, mirrored) in wanted {
            let ((column, left), (row, top)) = (columns.part(left), rows.part(top));
            let part = parts.iter().position(|part| *part == (column, row)).unwrap_or_else(|| {
                parts.push((column, row));
                parts.len() - 1
            });
            crops.push(Crop { part, left, top, place: (0, 0), upright, mirrored });
        }
        let part =
            |(column, row): (usize, usize)| target(columns.parts[column].clone(), rows.parts[row].clone());
        let targets = parts.into_iter().map(part).collect();
        ScalePlan { preprocessing, targets, crops }
    }

    /// The crops of the resized targets.
    pub(super) fn windows(&self, parts: &[RgbImage]) -> Vec<Window> {
        let side = self.preprocessing.crop_size;
        let window = |crop: &Crop| {
            let part = parts.get(crop.part)?;
            let room = |place: usize| side.saturating_sub(place as u32);
            let width = room(crop.place.0).min(part.width.saturating_sub(crop.left));
            let height = room(crop.place.1).min(part.height.saturating_sub(crop.top));
            let (stride, left, length) =
                (part.width as usize * 3, crop.left as usize * 3, width as usize * 3);
            let rows = (crop.top as usize..).take(height as usize);
            // A crop of margins only starts behind the image.
            let rows = rows.filter(|_| length > 0);
            let data = rows.flat_map(|y| &part.data[y * stride + left..][..length]).copied().collect();
            let pixels = self.preprocessing.padded(RgbImage { width, height, data }, crop.place);
            Some(Window { pixels, upright: crop.upright, mirrored: crop.mirrored })
        };
        self.crops.iter().filter_map(window).collect()
    }
}

/// Positions of crops along one axis of the resized image.
#[derive(Clone)]
pub(super) struct Axis {
    crop: u64,
    /// The start of the central crop.
    centre: u64,
    /// The start of the mirrored image's central crop.
    mirrored: u64,
    /// The start of the crop at the end.
    last: u64,
    /// The parts to resize: the whole axis, or start, middle and end of a strip that may be too
    /// long for any memory.
    pub(super) parts: Vec<Range<u64>>,
}

impl Axis {
    /// `size` is at least `crop`.
    pub(super) fn new(size: u64, crop: u32) -> Self {
        let centre = central_window(size, crop).0.start;
        let crop = u64::from(crop);
        let last = size - crop;
        let mirrored = last - centre;
        let parts = match size <= 3 * crop {
            true => std::iter::once(0..size).collect(),
            false => vec![0..crop, centre.min(mirrored)..centre.max(mirrored) + crop, last..size],
        };
        Axis { crop, centre, mirrored, last, parts }
    }

    /// The part that contains the crop at `start`, and the crop's offset in it.
    fn part(&self, start: u64) -> (usize, u32) {
        let holds = |part: &Range<u64>| part.start <= start && start + self.crop <= part.end;
        let part = self.parts.iter().position(holds).unwrap_or(0);
        (part, start.saturating_sub(self.parts[part].start) as u32)
    }
}
