//! One row of a settlement list, and how it stands in a file: cells under the names of [`COLUMNS`].

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{
    merchant::is_text,
    money::{Currency, Money},
};

/// The header of a list, exactly so and in this order.
///
/// | column | what it holds |
/// |---|---|
/// | `transaction_id` | the provider's name of the payment or refund; of a void without a name, that of its payment |
/// | `reference` | our reference at the provider; may be empty |
/// | `kind` | `payment` or `refund` |
/// | `currency` | ISO 4217 |
/// | `gross` | major units with a point; of a refund negative |
/// | `fee` | what the provider keeps, major units; may be empty |
/// | `net` | what is paid out, major units: gross less fee; may be empty |
/// | `at` | when it happened, RFC 3339 with its offset |
pub const COLUMNS: [&str; 8] = ["transaction_id", "reference", "kind", "currency", "gross", "fee", "net", "at"];

/// Most characters of a name on a list.
const MAX_NAME: usize = 128;

/// Which way money went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// In.
    Payment,
    /// Back.
    Refund,
}

impl Kind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Refund => "refund",
        }
    }
}

/// One row of a settlement list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRow {
    /// The provider's name of the payment or refund.
    pub transaction_id: String,
    /// Our reference at the provider, where the list has it.
    pub reference: Option<String>,
    /// Which way the money went.
    pub kind: Kind,
    /// Minor units; of a payment positive, of a refund negative.
    pub gross: Money,
    /// What the provider keeps, minor units, where the list says so.
    pub fee: Option<i64>,
    /// What is paid out, minor units, where the list says so.
    pub net: Option<i64>,
    /// When, by the provider's clock (UTC).
    pub at: DateTime<Utc>,
}

impl ListRow {
    /// Reads the cells of a row, in the order of [`COLUMNS`].
    ///
    /// # Errors
    /// The column and what is wrong with it.
    pub fn read(cells: &[&str]) -> Result<Self, String> {
        let [transaction_id, reference, kind, currency, gross, fee, net, at] = cells else {
            return Err(format!("it has {} cells, the header {}", cells.len(), COLUMNS.len()));
        };
        let currency = currency.parse::<Currency>().map_err(|error| format!("currency: {error}"))?;
        let amount = |column: &str, text: &str| {
            Money::parse_major(text, currency).map(|money| money.amount).map_err(|error| format!("{column}: {error}"))
        };
        let optional = |column: &str, text: &str| if text.is_empty() { Ok(None) } else { amount(column, text).map(Some) };
        let row = Self {
            transaction_id: name("transaction_id", transaction_id)?,
            reference: if reference.is_empty() { None } else { Some(name("reference", reference)?) },
            kind: match *kind {
                "payment" => Kind::Payment,
                "refund" => Kind::Refund,
                _ => return Err("kind: it is 'payment' or 'refund'".to_owned()),
            },
            gross: Money::new(amount("gross", gross)?, currency),
            fee: optional("fee", fee)?,
            net: optional("net", net)?,
            at: DateTime::parse_from_rfc3339(at)
                .map_err(|_| "at: it is a time with its offset, like 2026-05-01T10:00:00+07:00".to_owned())?
                .with_timezone(&Utc),
        };
        match row.kind {
            Kind::Payment if row.gross.amount <= 0 => Err("gross: of a payment it is positive".to_owned()),
            Kind::Refund if row.gross.amount >= 0 => Err("gross: of a refund it is negative".to_owned()),
            Kind::Payment | Kind::Refund => Ok(row),
        }
    }

    /// The cells of the row, in the order of [`COLUMNS`]. [`Self::read`] reads them back.
    pub fn cells(&self) -> [String; 8] {
        let major = |minor: i64| Money::new(minor, self.gross.currency).to_major();
        [
            self.transaction_id.clone(),
            self.reference.clone().unwrap_or_default(),
            self.kind.as_str().to_owned(),
            self.gross.currency.code().to_owned(),
            self.gross.to_major(),
            self.fee.map(major).unwrap_or_default(),
            self.net.map(major).unwrap_or_default(),
            self.at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        ]
    }

    /// What is paid out is what came less what the provider keeps, as far as the row says both.
    pub fn fee_adds(&self) -> bool {
        match (self.fee, self.net) {
            (Some(fee), Some(net)) => self.gross.amount.checked_sub(fee) == Some(net),
            (Some(_), None) | (None, _) => true,
        }
    }
}

fn name(column: &str, text: &str) -> Result<String, String> {
    if is_text(text, MAX_NAME) { Ok(text.to_owned()) } else { Err(format!("{column}: it has 1 to {MAX_NAME} characters")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 8] = ["T1", "REF1", "payment", "THB", "120.50", "1.93", "118.57", "2026-05-01T17:00:00+07:00"];

    fn read_with(column: usize, text: &str) -> Result<ListRow, String> {
        let mut cells = GOOD;
        cells[column] = text;
        ListRow::read(&cells)
    }

    #[test]
    fn a_row_is_read_exactly_and_reads_back_what_it_wrote() {
        let row = ListRow::read(&GOOD).unwrap();
        assert_eq!((row.gross, row.fee, row.net), (Money::thb(120_50), Some(1_93), Some(118_57)));
        assert_eq!(row.at.to_rfc3339(), "2026-05-01T10:00:00+00:00");
        let bare = ["T2", "", "refund", "JPY", "-700", "", "", "2026-05-01T10:00:00.250Z"];
        let bare_row = ListRow::read(&bare).unwrap();
        assert_eq!((bare_row.reference.as_deref(), bare_row.fee, bare_row.net), (None, None, None));
        assert_eq!(bare_row.cells(), bare);
        let cells = row.cells();
        assert_eq!(ListRow::read(&cells.each_ref().map(String::as_str)), Ok(row));
    }

    #[test]
    fn a_bad_cell_is_refused_by_the_name_of_its_column() {
        let bad = [
            (0, ""),
            (0, "T\u{1b}[2J"),
            (1, " "),
            (2, "chargeback"),
            (3, "thb"),
            (4, "1,205.00"),
            (4, "120.505"),
            (4, "1e3"),
            (4, "0"),
            (4, "-120.50"),
            (5, "free"),
            (6, "118.570001"),
            (7, "2026-05-01"),
            (7, "2026-05-01T10:00:00"),
        ];
        for (column, text) in bad {
            let refusal = read_with(column, text).unwrap_err();
            assert!(refusal.starts_with(COLUMNS[column]), "{text}: {refusal}");
        }
        assert!(ListRow::read(&["T3", "REF1", "refund", "THB", "120.50", "", "", GOOD[7]]).unwrap_err().starts_with("gross"));
        assert!(ListRow::read(&GOOD[..7]).unwrap_err().contains("7 cells"));
    }

    #[test]
    fn a_fee_adds_up_or_is_not_said() {
        for (fee, net, adds) in [("1.93", "118.57", true), ("1.92", "118.57", false), ("", "118.57", true), ("1.93", "", true)] {
            let mut cells = GOOD;
            (cells[5], cells[6]) = (fee, net);
            assert_eq!(ListRow::read(&cells).unwrap().fee_adds(), adds, "{fee} {net}");
        }
        let endless = ListRow { fee: Some(i64::MIN), ..ListRow::read(&GOOD).unwrap() };
        assert!(!endless.fee_adds(), "what does not fit does not add");
    }
}
