//! Generated sales as a file for `smartpos import`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// One row, one sale, one payment.
const MAPPING: &str = r#"source = "bench"
[merchant]
psp = "bench"
code = "bench"
name = "Bench House"
[store]
currency = "THB"
zone = "Asia/Bangkok"
tax = "thai_inclusive"
known.main = { code = "main", name = "Main" }
value = { constant = "main" }
[order]
key = "no"
opened_at = { column = "at", format = "%Y-%m-%d %H:%M:%S" }
[[line]]
item_code = { column = "item" }
name = { column = "item" }
unit_price = { column = "price" }
[payment]
amount = { column = "price" }
tender = { column = "tender", values = { C = "cash", V = "card" } }
"#;

/// Writes so many sales into `dir`; the file and its mapping.
///
/// # Errors
/// The directory cannot be written.
pub fn write_history(dir: &Path, sales: u64) -> std::io::Result<(PathBuf, PathBuf)> {
    let (file, mapping) = (dir.join("sales.csv"), dir.join("mapping.toml"));
    let mut text = String::from("no,at,item,price,tender\n");
    for n in 0..sales {
        let (day, hour, minute, second) = (n / 4_000 % 28 + 1, n / 400 % 12 + 8, n / 7 % 60, n % 60);
        let (item, baht, tender) = (n % 40, n % 200 + 20, if n.is_multiple_of(3) { "V" } else { "C" });
        let row = writeln!(text, "{n},2026-01-{day:02} {hour:02}:{minute:02}:{second:02},Item {item},{baht}.50,{tender}");
        row.map_err(std::io::Error::other)?;
    }
    std::fs::write(&mapping, MAPPING)?;
    std::fs::write(&file, text)?;
    Ok((file, mapping))
}
