//! How many packets and blocks the headers of a JPEG 2000 codestream promise (ITU-T T.800).
//!
//! A decoder makes all of them before it reads the first, and 250 bytes can promise a hundred
//! million. A packet takes at least a byte of the file, though, so the file's size bounds them.

use super::field;
use crate::util::budget::Budget;

/// Different codings in a file; real ones have one, or another for chroma.
const MAX_CODINGS: usize = 16;
/// What small files may have beyond their size.
const SPARE: u64 = 1 << 16;

/// What a COD or COC marker says.
#[derive(Debug, Clone, PartialEq)]
struct Coding {
    /// Logarithms of a block's width and height.
    block: (u32, u32),
    /// Those of a precinct's, from the lowest resolution up; their number is that of resolutions.
    precincts: Vec<(u32, u32)>,
}

impl Coding {
    /// Reads the parameters at `at`: levels, block, style, transform, and the precincts if `custom`.
    fn read(stream: &[u8], at: usize, custom: bool) -> Option<Self> {
        let byte = |at| field(stream, at, 1).map(|byte| byte as u32);
        let resolutions = byte(at)?.min(32) as usize + 1;
        let block = ((byte(at + 1)? & 15) + 2, (byte(at + 2)? & 15) + 2);
        let precinct = |index: usize| match custom {
            true => byte(at + 5 + index).map(|both| (both & 15, both >> 4)),
            false => Some((15, 15)),
        };
        Some(Coding { block, precincts: (0..resolutions).map(precinct).collect::<Option<_>>()? })
    }
}

/// The markers of all headers that decide on the number of packets.
#[derive(Debug, Default)]
struct Codings {
    all: Vec<Coding>,
    layers: u64,
    /// Changes of the order of packets, each of which goes through all of them.
    changes: u64,
}

impl Codings {
    /// Collects them from the main header and those of tile parts.
    fn of(stream: &[u8]) -> Result<Self, String> {
        let mut found = Codings::default();
        let field = |at, count| field(stream, at, count);
        let (mut at, mut next_part) = (2, None);
        while let Some(marker) = field(at, 2) {
            let Some(length) = field(at + 2, 2) else { break };
            match marker {
                0xFF52 => {
                    found.layers = found.layers.max(field(at + 6, 2).unwrap_or(0));
                    found.add(Coding::read(stream, at + 9, field(at + 4, 1).unwrap_or(0) & 1 == 1))?;
                }
                0xFF53 => found.add(Coding::read(stream, at + 6, field(at + 5, 1).unwrap_or(0) & 1 == 1))?,
                0xFF5F => found.changes += (length.saturating_sub(2)) / 7,
                0xFF90 => {
                    let part = field(at + 6, 4).unwrap_or(0);
                    next_part = (part > 0).then(|| at.saturating_add(part as usize));
                }
                // The data of a tile part.
                0xFF93 => match next_part.take() {
                    Some(next) if next > at => {
                        at = next;
                        continue;
                    }
                    _ => break,
                },
                0xFFD9 => break,
                _ => (),
            }
            at = match marker {
                0xFF30..=0xFF3F => at + 2,
                _ => at.saturating_add(2 + length as usize),
            };
        }
        Ok(found)
    }

    fn add(&mut self, coding: Option<Coding>) -> Result<(), String> {
        let Some(coding) = coding else { return Ok(()) };
        if self.all.contains(&coding) {
            return Ok(());
        }
        if self.all.len() == MAX_CODINGS {
            return Err(format!(
                "the JPEG 2000 file has more than {MAX_CODINGS} different codings, as no real one does: it is damaged or hostile"
            ));
        }
        self.all.push(coding);
        Ok(())
    }
}

/// Spans of the tiles along an axis, of `(start, end, tile, tile's origin)` on the reference grid.
type Axis = (u64, u64, u64, u64);

fn tiles((start, end, tile, origin): Axis) -> impl Iterator<Item = (u64, u64)> {
    let count = end.saturating_sub(origin).div_ceil(tile.max(1));
    (0..count).map(move |index| {
        let from = origin + index * tile;
        (from.max(start), (from + tile).min(end))
    })
}

/// Precincts and blocks of one resolution of a component, along an axis: sums over the tiles.
fn along(axis: Axis, step: u64, reduced: u32, precinct: u32, block: u32) -> (u64, u64) {
    let step = step.max(1);
    let scaled = |place: u64| place.div_ceil(step).div_ceil(1 << reduced);
    tiles(axis).fold((0, 0), |(precincts, blocks), (from, to)| {
        let (from, to) = (scaled(from), scaled(to));
        if from >= to {
            return (precincts, blocks);
        }
        let precinct_span = to.div_ceil(1 << precinct) - (from >> precinct);
        (precincts + precinct_span, blocks + (to - from).div_ceil(1 << block))
    })
}

/// Refuses a codestream of `components` that promises more packets than its file has bytes, or
/// more blocks than its bytes and its pixels explain.
pub(super) fn check(stream: &[u8], components: u16, file: usize) -> Result<(), String> {
    let codings = Codings::of(stream)?;
    let four = |at| field(stream, at, 4).unwrap_or(0);
    let axes: [Axis; 2] = [8, 12].map(|at| (four(at + 8), four(at), four(at + 16), four(at + 24)));
    let (mut packets, mut blocks, mut samples) = (0u64, 0u64, 0u64);
    for component in 0..usize::from(components) {
        let steps = [0, 1].map(|axis| field(stream, 43 + axis + 3 * component, 1).unwrap_or(1));
        let most = |totals: &dyn Fn(&Coding) -> (u64, u64)| {
            let all = codings.all.iter().map(totals);
            all.fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)))
        };
        let (its_packets, its_blocks) = most(&|coding| of_component(coding, axes, steps));
        packets = packets.saturating_add(its_packets);
        blocks = blocks.saturating_add(its_blocks);
        let side = |axis: usize| (axes[axis].1.saturating_sub(axes[axis].0)).div_ceil(steps[axis].max(1));
        samples = samples.saturating_add(side(0).saturating_mul(side(1)));
    }
    let named = |message| format!("the JPEG 2000 file {message}");
    let packets = packets.saturating_mul(codings.layers.max(1));
    Budget::of_file("packets", file, 1, SPARE).spend(packets).map_err(named)?;
    Budget::of_file("packets in changing orders", file, 4, 16 * SPARE)
        .spend(packets.saturating_mul(codings.changes))
        .map_err(named)?;
    // A block of real files has a thousand samples or more; sixty-four are free, and a million blocks.
    Budget::of_file("blocks", file, 2, 16 * SPARE + samples / 64).spend(blocks).map_err(named)
}

/// Packets of a layer, and blocks, of a component.
fn of_component(coding: &Coding, axes: [Axis; 2], steps: [u64; 2]) -> (u64, u64) {
    let levels = coding.precincts.len() - 1;
    let mut all = (0u64, 0u64);
    for (resolution, precinct) in coding.precincts.iter().enumerate() {
        let reduced = (levels - resolution) as u32;
        // Bands of the higher resolutions have half of their size, and there are three.
        let (halved, bands) = if resolution == 0 { (0, 1) } else { (1, 3) };
        let axis = |axis: usize, precinct: u32, block: u32| {
            let block = block.min(precinct.saturating_sub(halved)) + halved;
            along(axes[axis], steps[axis], reduced, precinct, block)
        };
        let (across, down) = (axis(0, precinct.0, coding.block.0), axis(1, precinct.1, coding.block.1));
        all.0 = all.0.saturating_add(across.0.saturating_mul(down.0));
        all.1 = all.1.saturating_add(across.1.saturating_mul(down.1).saturating_mul(bands));
    }
    all
}
