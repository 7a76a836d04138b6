//! Prints an answer line by line and ends it with its digest.
//!
//! Each line exists twice: as a JSON object with sorted keys, which is hashed and printed with `--json`, and as text for
//! people. So the digest does not depend on how the answer is shown.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An answer in the making.
pub struct Answer {
    json: bool,
    out: BufWriter<Stdout>,
    digest: LineDigest,
}

impl Answer {
    /// To standard output.
    pub fn new(json: bool) -> Self {
        Self { json, out: BufWriter::new(io::stdout()), digest: LineDigest::default() }
    }

    /// The next line. `text` may be empty, or have several lines.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn line(&mut self, value: &Value, text: &str) -> io::Result<()> {
        let canonical = self.digest.add(value);
        if self.json {
            writeln!(self.out, "{canonical}")
        } else if text.is_empty() {
            Ok(())
        } else {
            writeln!(self.out, "{text}")
        }
    }

    /// Sees to it that a person sees what was answered so far; nothing where nobody looks on.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn shown(&mut self) -> io::Result<()> {
        if self.out.get_ref().is_terminal() { self.out.flush() } else { Ok(()) }
    }

    /// Sees to it that what was answered so far is told, whatever comes.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A line that is no part of what the digest covers: a figure that differs from one copy of the same log to the next.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn aside(&mut self, value: &Value, text: &str) -> io::Result<()> {
        if self.json { writeln!(self.out, "{value}") } else { writeln!(self.out, "{text}") }
    }

    /// Text that is no part of the answer, such as a heading; nothing with `--json`.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(self.out, "{text}") }
    }

    /// Ends the answer with its digest.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn finish(mut self) -> io::Result<()> {
        let digest = self.digest.finish();
        if self.json {
            writeln!(self.out, "{}", json!({"digest": digest}))?;
        } else {
            writeln!(self.out, "digest {digest}")?;
        }
        self.out.flush()
    }
}

/// SHA-256 over canonical lines, each with its line feed.
#[derive(Default)]
struct LineDigest(Sha256);

impl LineDigest {
    /// Takes a line in; gives its canonical form: JSON without blanks, keys in byte order.
    fn add(&mut self, value: &Value) -> String {
        let canonical = value.to_string();
        self.0.update(canonical.as_bytes());
        self.0.update(b"\n");
        canonical
    }

    fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_lines_with_sorted_keys() {
        let mut digest = LineDigest::default();
        assert_eq!(digest.add(&json!({"b": 1, "a": {"d": [2], "c": null}})), r#"{"a":{"c":null,"d":[2]},"b":1}"#);
        digest.add(&json!("x"));
        // printf '{"a":{"c":null,"d":[2]},"b":1}\n"x"\n' | sha256sum
        assert_eq!(digest.finish(), "d60d769816d5e60923d0a528e1d09f83fe4d5d70b542b61bac0d449c783c924c");
    }
}
