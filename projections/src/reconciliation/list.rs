//! A settlement list out of a CSV file.

use std::fmt;

use domain::reconciliation::{COLUMNS, ListRow, Listed};

/// Bad lines that are told; the rest is counted.
const TOLD: usize = 20;
/// Some programs begin a file in UTF-8 with it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file that is no settlement list: nothing of it is used, since half a list would show differences that are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadList {
    /// Line and what is wrong with it, the first [`TOLD`].
    pub lines: Vec<(u64, String)>,
    /// How many more are bad.
    pub more: usize,
}

impl std::error::Error for BadList {}

impl fmt::Display for BadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.lines.iter().map(|(line, what)| format!("line {line}: {what}")).collect();
        f.write_str(&lines.join("; "))?;
        if self.more > 0 { write!(f, "; and {} more lines", self.more) } else { Ok(()) }
    }
}

/// Reads a list: UTF-8, commas, quotes where needed, [`COLUMNS`] as its header, one row a line. Memory grows with the list.
///
/// # Errors
/// Every line that cannot be used.
pub fn read_list(file: &[u8]) -> Result<Vec<Listed>, BadList> {
    let file = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    let (mut list, mut bad) = (Vec::new(), BadList { lines: Vec::new(), more: 0 });
    for (line, text) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        if line == 1 {
            if !cells(text).is_some_and(|cells| cells.iter().eq(COLUMNS)) {
                bad.add(line, format!("the header is not {}", COLUMNS.join(",")));
                break;
            }
        } else if !text.trim_ascii().is_empty() {
            let read = cells(text).ok_or_else(|| "it is not CSV in UTF-8".to_owned());
            match read.and_then(|cells| ListRow::read(&cells.iter().collect::<Vec<_>>())) {
                Ok(row) => list.push(Listed { line, row }),
                Err(what) => bad.add(line, what),
            }
        }
    }
    if bad.lines.is_empty() { Ok(list) } else { Err(bad) }
}

/// The cells of one line. Each line is read by itself: no cell holds a line feed, and a quote that is not closed spoils its own line only.
fn cells(line: &[u8]) -> Option<csv::StringRecord> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(line.len().saturating_add(1)).from_reader(line);
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).ok().map(|_| record)
}

impl BadList {
    fn add(&mut self, line: u64, what: String) {
        if self.lines.len() < TOLD {
            self.lines.push((line, what));
        } else {
            self.more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "T1,REF1,payment,THB,120.50,1.93,118.57,2026-05-01T17:00:00+07:00\n";

    fn file(rows: &str) -> Result<Vec<Listed>, BadList> {
        read_list(format!("{}\n{rows}", COLUMNS.join(",")).as_bytes())
    }

    #[test]
    fn rows_keep_their_lines() {
        let list = file(&format!("{GOOD}\n\"T,2\",,refund,JPY,-700,,,2026-05-01T10:00:00Z\r\n")).unwrap();
        let told: Vec<(u64, &str)> = list.iter().map(|listed| (listed.line, listed.row.transaction_id.as_str())).collect();
        assert_eq!(told, [(2, "T1"), (4, "T,2")]);
        assert_eq!(file("").unwrap(), []);
        let marked = format!("\u{feff}{}\r\n{GOOD}", COLUMNS.join(","));
        assert_eq!(read_list(marked.as_bytes()).unwrap()[0].line, 2);
    }

    #[test]
    fn a_file_with_bad_lines_is_refused_with_all_of_them() {
        let rows = format!("{GOOD}T2,REF1,payment,THB,1e3,,,2026-05-01T10:00:00Z\n{GOOD}T3,REF1,payment\n");
        let refusal = file(&rows).unwrap_err();
        assert_eq!(refusal.lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 5]);
        assert!(refusal.to_string().starts_with("line 3: gross: '1e3'"), "{refusal}");
        assert_eq!(file(&format!("\"T1,REF1\n{GOOD}")).unwrap_err().lines.len(), 1, "an open quote ends with its line");
        let bytes = [format!("{}\n", COLUMNS.join(",")).as_bytes(), b"T\xff,,payment,THB,1,,,2026-05-01T10:00:00Z\n"].concat();
        assert_eq!(read_list(&bytes).unwrap_err().to_string(), "line 2: it is not CSV in UTF-8");
        let many = file(&"x\n".repeat(25)).unwrap_err();
        assert_eq!((many.lines.len(), many.more), (20, 5));
        assert!(many.to_string().ends_with("; and 5 more lines"));
    }

    #[test]
    fn a_file_with_another_header_is_no_list() {
        for header in ["", "transaction_id,reference", "at,net,fee,gross,currency,kind,reference,transaction_id"] {
            let refusal = read_list(format!("{header}\n{GOOD}").as_bytes()).unwrap_err();
            assert_eq!(refusal.lines[0].0, 1, "{header}");
        }
    }
}
