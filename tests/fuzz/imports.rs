//! Files of the import: mappings in TOML, and sales in CSV under the mappings of this repository.

use std::{fmt::Write as _, fs, path::Path};

use api::import::{
    Mapping, Planner,
    rows::{Input as Rows, StepKind, Steps},
};
use support::ScratchDir;

use crate::{Tally, edits::Samples, fuzz};

/// What becomes of a file: the rows that the steps hold, whether one became something, and everything in words. Nothing when the
/// file cannot be read as CSV, or lacks a column.
fn planned(mapping: &Mapping, path: &Path) -> Option<(usize, bool, String)> {
    let input = Rows::open(path, &mapping.file).ok()?;
    let header = input.header().clone();
    let mut steps = Steps::new(input, Planner::bind(mapping.clone(), &header).ok()?);
    let (mut rows, mut useful, mut words) = (0, false, String::new());
    while let Some(step) = steps.advance().ok()? {
        rows += step.rows.len();
        useful |= !matches!(step.what, StepKind::Bad(_));
        if let StepKind::Sale(sale) = &step.what {
            assert!(sale.payment.as_ref().is_none_or(|payment| payment.amount.currency == sale.total.currency), "{step:?}");
        }
        writeln!(words, "{step:?}").unwrap();
    }
    Some((rows, useful, words))
}

#[test]
fn every_row_of_a_file_is_accounted_for_and_planned_the_same_twice() {
    let tally = Tally::default();
    let dir = ScratchDir::new("fuzz-rows");
    let path = dir.path().join("sales.csv");
    let samples = Samples::of("csv");
    let mappings: Vec<Mapping> = samples
        .names
        .iter()
        .map(|name| {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mappings").join(name).with_extension("toml");
            Mapping::load(&file).unwrap()
        })
        .collect();
    fuzz!(2_500, samples, |input| {
        let mapping = &mappings[input.sample];
        fs::write(&path, &input.bytes).unwrap();
        let Some((rows, useful, words)) = planned(mapping, &path) else { return tally.refused() };
        if useful {
            tally.accepted();
        } else {
            tally.refused();
        }
        assert!(planned(mapping, &path).is_some_and(|again| again.2 == words), "planned differently");
        // A reader of our own counts what is there; packed files are not its business.
        if !input.bytes.starts_with(&[0x1f, 0x8b]) {
            let delimiter = u8::try_from(mapping.file.delimiter).unwrap();
            let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(input.bytes.as_slice());
            assert_eq!(reader.byte_records().count(), rows, "a row was dropped without being counted");
        }
    });
    tally.has_seen_both("rows");
}

#[test]
fn a_mapping_is_refused_or_can_be_used() {
    let tally = Tally::default();
    let dir = ScratchDir::new("fuzz-mappings");
    let path = dir.path().join("sales.csv");
    let samples = Samples::in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../mappings"));
    let files = Samples::of("csv").samples;
    fuzz!(2_500, samples, |input| {
        let Some(text) = input.text() else { return tally.refused() };
        let Ok(mapping) = Mapping::parse(text) else { return tally.refused() };
        tally.accepted();
        fs::write(&path, &files[input.sample]).unwrap();
        // With its rows, or without for want of a column.
        let _ = planned(&mapping, &path);
    });
    tally.has_seen_both("mappings");
}
