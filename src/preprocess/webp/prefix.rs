//! Bits of a lossless stream, and its prefix codes (RFC 9649, section 3).

/// Symbols of the code of lengths, in the order in which their own lengths are stored.
const LENGTHS_ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Bits of the longest code word.
const LONGEST: u32 = 15;
/// Bits by which the decoder's tables are indexed; longer words continue in a tree.
const TABLE_BITS: u32 = 10;

pub(super) fn damaged(what: &str) -> String {
    format!("the WebP file is damaged: {what}")
}

/// A stream of bits, the lowest of each byte first.
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(stream: &'a [u8]) -> Self {
        Bits { rest: stream, held: 0, count: 0 }
    }

    /// The next bits, at most 32 and zeros behind the end; they stay in the stream.
    fn peek(&mut self, count: u32) -> u32 {
        while self.count < count
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.held |= u64::from(*byte) << self.count;
            self.count += 8;
            self.rest = rest;
        }
        (self.held & ((1 << count) - 1)) as u32
    }

    /// Passes over bits that were seen.
    fn skip(&mut self, count: u32) -> Result<(), String> {
        self.count = self.count.checked_sub(count).ok_or_else(|| damaged("it ends within an image"))?;
        self.held >>= count;
        Ok(())
    }

    /// A number of at most 32 bits.
    pub(super) fn take(&mut self, count: u32) -> Result<u32, String> {
        let number = self.peek(count);
        self.skip(count)?;
        Ok(number)
    }

    pub(super) fn flag(&mut self) -> Result<bool, String> {
        Ok(self.take(1)? == 1)
    }
}

/// A prefix code as it is stored.
#[derive(Debug, PartialEq)]
pub(super) enum Code {
    /// One symbol, whose word has no bits.
    One(u16),
    /// The symbols of 0 and 1.
    Two([u16; 2]),
    /// The length of each symbol's word, 0 if it has none; the words are in the order of the symbols.
    Many(Vec<u8>),
}

impl Code {
    /// Reads the code of an alphabet of so many symbols.
    pub(super) fn read(bits: &mut Bits<'_>, symbols: usize) -> Result<Self, String> {
        if !bits.flag()? {
            return Self::read_lengths(bits, symbols);
        }
        let two = bits.flag()?;
        let width = if bits.flag()? { 8 } else { 1 };
        let first = bits.take(width)?;
        let second = if two { bits.take(8)? } else { first };
        if first.max(second) as usize >= symbols {
            return Err(damaged("a code of symbols that do not exist"));
        }
        match two {
            // Decoders do not agree on the bits that such a word has.
            true if first == second => Err(damaged("a code of one symbol twice")),
            true => Ok(Code::Two([first as u16, second as u16])),
            false => Ok(Code::One(first as u16)),
        }
    }

    fn read_lengths(bits: &mut Bits<'_>, symbols: usize) -> Result<Self, String> {
        let mut lengths = vec![0; LENGTHS_ORDER.len()];
        let stored = 4 + bits.take(4)? as usize;
        for &symbol in &LENGTHS_ORDER[..stored] {
            lengths[symbol] = bits.take(3)? as u8;
        }
        let code = Words::of(&Code::checked(lengths)?);
        let mut words = usize::MAX;
        if bits.flag()? {
            let width = 2 + 2 * bits.take(3)?;
            words = 2 + bits.take(width)? as usize;
            if words > symbols {
                return Err(damaged("a code of more symbols than there are"));
            }
        }
        let (mut lengths, mut last) = (Vec::with_capacity(symbols), 8);
        while lengths.len() < symbols && words > 0 {
            words -= 1;
            let (length, times) = match code.next(bits)? {
                length @ 0..16 => (length as u8, 1),
                16 => (last, 3 + bits.take(2)? as usize),
                17 => (0, 3 + bits.take(3)? as usize),
                _ => (0, 11 + bits.take(7)? as usize),
            };
            if length > 0 {
                last = length;
            }
            if times > symbols - lengths.len() {
                return Err(damaged("a code of more symbols than there are"));
            }
            lengths.extend(std::iter::repeat_n(length, times));
        }
        Code::checked(lengths)
    }

    /// The code of these lengths, whose words have to use up all bits.
    fn checked(lengths: Vec<u8>) -> Result<Self, String> {
        let mut used = lengths.iter().enumerate().filter(|(_, length)| **length > 0);
        if let (Some((symbol, _)), None) = (used.next(), used.next()) {
            return Ok(Code::One(symbol as u16));
        }
        let share = |length: &u8| if *length > 0 { 1u64 << (LONGEST - u32::from(*length)) } else { 0 };
        if lengths.iter().map(share).sum::<u64>() != 1 << LONGEST {
            return Err(damaged("a code with words too many or too few"));
        }
        Ok(Code::Many(lengths))
    }

    /// Bits of the longest word.
    fn longest(&self) -> u32 {
        match self {
            Code::One(_) => 0,
            Code::Two(_) => 1,
            Code::Many(lengths) => lengths.iter().copied().max().unwrap_or(0).into(),
        }
    }

    /// Bytes that the decoder's table of this code takes, and the tree of its long words.
    pub(super) fn table_bytes(&self) -> u64 {
        let in_tree = match self {
            Code::One(_) => return 0,
            Code::Two(_) => 2,
            Code::Many(lengths) => lengths.iter().filter(|length| u32::from(**length) > TABLE_BITS).count(),
        };
        (4 << self.longest().min(TABLE_BITS)) + 32 * in_tree as u64
    }
}

/// A code made ready: for each value of the next bits, the symbol and the length of its word.
pub(super) struct Words {
    table: Vec<(u16, u8)>,
    bits: u32,
}

impl Words {
    pub(super) fn of(code: &Code) -> Self {
        let bits = code.longest();
        let table = match code {
            Code::One(symbol) => vec![(*symbol, 0)],
            Code::Two(symbols) => symbols.map(|symbol| (symbol, 1)).to_vec(),
            Code::Many(lengths) => {
                let mut table = vec![(0, 0); 1 << bits];
                let mut word = 0u32;
                for length in 1..=bits {
                    let symbols = lengths.iter().enumerate().filter(|(_, own)| u32::from(**own) == length);
                    for (symbol, _) in symbols {
                        // The first bit of a word is its highest, and the lowest of the stream.
                        let first = (word.reverse_bits() >> (u32::BITS - length)) as usize;
                        for entry in table.iter_mut().skip(first).step_by(1 << length) {
                            *entry = (symbol as u16, length as u8);
                        }
                        word += 1;
                    }
                    word <<= 1;
                }
                table
            }
        };
        Words { table, bits }
    }

    /// Reads a symbol.
    pub(super) fn next(&self, bits: &mut Bits<'_>) -> Result<u16, String> {
        let (symbol, length) = self.table[bits.peek(self.bits) as usize];
        bits.skip(length.into())?;
        Ok(symbol)
    }
}
