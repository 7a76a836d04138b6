//! Makes inputs: a sample of a corpus with a few edits. Most keep the shape of the text (a word for a word), so that what comes
//! out gets past the first parser; the rest break it.

use std::{fmt, fs, ops::Bound, ops::Range, path::Path};

use bolero::{Driver, ValueGenerator};

/// Longest input.
const MAX_BYTES: usize = 100_000;
/// Most edits of one input.
const MAX_EDITS: usize = 5;

/// What parsers trip over.
const WORDS: &[&[u8]] = &[
    b"0", b"-0", b"-1", b"1", b"00", b"01", b"+1", b"1.0", b"1e3", b"1e309", b"-1e309", b"0.1", b"0.001", b".5", b"5.", b"1_000", b"0x1F",
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"18446744073709551616",
    b"170141183460469231731687303715884105728", b"79228162514264337593543950336", b"NaN", b"Infinity", b"99999999999999999999999.99",
    b"null", b"true", b"false", b"\"\"", b"[]", b"{}", b"[[]]", b"{\"a\":1}", b"{\"a\":1,\"a\":2}", b"\"0\"", b"\"-1\"", b"\"1.00\"",
    b"\"\\u0000\"", b"\"\\ud800\"", b"\"\\uD83D\\uDE00\"", b"\"\xff\"", b"\"\xc3\"", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x00", b"\x7f",
    b"\r\n", b"\n", b"\t", b" ", b"\"", b"'", b"\\", b"%00", b"%2e%2e%2f", b"%", b"%zz", b"%F0%9F%92%A9", b"?", b"&", b"=", b"#", b"@", b":", b";", b",",
    b"\xe0\xb9\x91\xe0\xb9\x92\xe0\xb9\x93", b"\xd9\xa1\xd9\xa2", b"\xef\xbc\x91", b"\xe2\x80\xae", b"\xe0\xb8\x81", b"\xf0\x9f\x92\xa9", b"K\xcc\x88", b"\xc2\xa0",
    b"\"+262142-12-31T23:59:59Z\"", b"\"-262143-01-01T00:00:00Z\"", b"\"1970-01-01T00:00:00Z\"", b"\"2026-02-30T25:61:61Z\"",
    b"\"9999-12-31T23:59:60Z\"", b"+262142-12-31", b"-262143-01-01", b"0000-00-00", b"9999-12-31", b"0001-01-01", b"2026-03-29 02:30:00",
    b"THB", b"JPY", b"KWD", b"XXX", b"thb", b"\"JPY\"", b"\"KWD\"", b"$serde_json::private::RawValue", b"__proto__", b"' or 1=1 --",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    b"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// One input.
#[derive(Clone)]
pub struct Input {
    /// Which sample it was made of, by place.
    pub sample: usize,
    /// The edited sample.
    pub bytes: Vec<u8>,
    /// A number for what a target decides by chance.
    pub salt: u64,
}

impl Input {
    /// As text, if it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sample {}, salt {}: b\"{}\"", self.sample, self.salt, self.bytes.escape_ascii())
    }
}

/// Samples, and a generator of inputs made of them.
#[derive(Clone)]
pub struct Samples {
    /// In the order of their names.
    pub names: Vec<String>,
    /// Their bytes.
    pub samples: Vec<Vec<u8>>,
}

impl Samples {
    /// The files of `corpus/<target>/`.
    pub fn of(target: &str) -> Self {
        Self::in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target))
    }

    /// The files of a folder.
    pub fn in_folder(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        files.sort();
        let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        Self { names: files.iter().map(name).collect(), samples: files.iter().map(|path| fs::read(path).unwrap()).collect() }
    }

    /// Samples that no file holds, because they are signed.
    pub fn these(samples: Vec<Vec<u8>>) -> Self {
        Self { names: (0..samples.len()).map(|n| n.to_string()).collect(), samples }
    }

    fn edit<D: Driver>(&self, driver: &mut D, bytes: &mut Vec<u8>) -> Option<()> {
        let words = tokens(bytes);
        match below(driver, 12)? {
            0 => {
                let (at, bit) = (below(driver, bytes.len())?, below(driver, 8)?);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            1 => {
                let (at, value) = (below(driver, bytes.len())?, driver.produce::<u8>()?);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            2 => {
                let (at, word) = (below(driver, bytes.len() + 1)?, below(driver, WORDS.len())?);
                bytes.splice(at..at, WORDS[word].iter().copied());
            }
            3 => {
                let range = some_range(driver, bytes.len())?;
                bytes.drain(range);
            }
            4 => {
                let range = some_range(driver, bytes.len())?;
                let copy = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, copy);
            }
            5 => {
                let other = &self.samples[below(driver, self.samples.len())?];
                let (keep, from) = (below(driver, bytes.len() + 1)?, below(driver, other.len() + 1)?);
                bytes.truncate(keep);
                bytes.extend_from_slice(&other[from..]);
            }
            6 => {
                let place = some_of(driver, &words)?;
                bytes.drain(place);
            }
            7 => {
                let place = some_of(driver, &words)?;
                let other = &self.samples[below(driver, self.samples.len())?];
                let word = some_of(driver, &tokens(other))?;
                bytes.splice(place, other[word].iter().copied());
            }
            _ => {
                let (place, word) = (some_of(driver, &words)?, below(driver, WORDS.len())?);
                bytes.splice(place, WORDS[word].iter().copied());
            }
        }
        bytes.truncate(MAX_BYTES);
        Some(())
    }
}

impl ValueGenerator for Samples {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        let sample = below(driver, self.samples.len())?;
        let mut bytes = self.samples[sample].clone();
        for _ in 0..below(driver, MAX_EDITS + 1)? {
            self.edit(driver, &mut bytes)?;
        }
        Some(Input { sample, bytes, salt: driver.produce()? })
    }
}

/// A number below `end`; 0 when there is none.
fn below<D: Driver>(driver: &mut D, end: usize) -> Option<usize> {
    if end <= 1 {
        return Some(0);
    }
    driver.gen_usize(Bound::Included(&0), Bound::Excluded(&end))
}

/// A few bytes somewhere, within `length`.
fn some_range<D: Driver>(driver: &mut D, length: usize) -> Option<Range<usize>> {
    let (from, count) = (below(driver, length)?, below(driver, 24)?);
    Some(from..(from + count).min(length))
}

/// One of `words`; nothing at the beginning when there is none.
fn some_of<D: Driver>(driver: &mut D, words: &[Range<usize>]) -> Option<Range<usize>> {
    let at = below(driver, words.len())?;
    Some(words.get(at).cloned().unwrap_or(0..0))
}

/// The words of a text: quoted ones with their quotes, and runs of letters, digits and what numbers and times are made of.
fn tokens(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if bytes[at] == b'"' {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at = (at + 1).min(bytes.len());
        } else {
            while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || b"-+._".contains(&bytes[at])) {
                at += 1;
            }
        }
        if at > start {
            found.push(start..at);
        } else {
            at += 1;
        }
    }
    found
}
