//! The one table, for people and for machines.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use crate::machine::Machine;

/// Between these lines of `docs/performance.md` stands the last recorded run.
const MARKS: [&str; 2] = ["<!-- bench: the last recorded run begins -->", "<!-- bench: the last recorded run ends -->"];

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl Aim {
    fn is_reached_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    section: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    aim: Option<Aim>,
    reached: Option<bool>,
}

/// All lines so far; each is printed as it comes.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// A figure on its own.
    pub fn figure(&mut self, section: &'static str, what: impl Into<String>, value: f64, unit: &'static str) {
        self.push(section, what.into(), value, unit, None);
    }

    /// A figure with an aim.
    pub fn aimed(&mut self, section: &'static str, what: impl Into<String>, value: f64, unit: &'static str, aim: Aim) {
        self.push(section, what.into(), value, unit, Some(aim));
    }

    /// `a` divided by `b`. When one of them is nothing, something went wrong: no aim is reached by that.
    pub fn ratio(&mut self, section: &'static str, what: impl Into<String>, (a, b): (f64, f64), aim: Option<Aim>) {
        let measured = a > 0.0 && b > 0.0;
        let ratio = if measured { a / b } else { 0.0 };
        let reached = aim.map(|aim| measured && aim.is_reached_by(ratio));
        self.add(Row { section, what: what.into(), value: ratio, unit: "ratio", aim, reached });
    }

    /// Something to know about the figures.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        println!("  note: {note}");
        self.notes.push(note);
    }

    /// A figure with an aim or without.
    pub fn push(&mut self, section: &'static str, what: String, value: f64, unit: &'static str, aim: Option<Aim>) {
        let reached = aim.map(|aim| aim.is_reached_by(value));
        self.add(Row { section, what, value, unit, aim, reached });
    }

    fn add(&mut self, row: Row) {
        println!("  {}", plain(&row));
        self.rows.push(row);
    }

    /// The table as Markdown.
    pub fn markdown(&self, machine: &Machine, mode: &str) -> String {
        let mut text = format!("{}\n\nRun: {mode}.\n\n", machine.description());
        text.push_str("| section | what | figure | unit | aim | |\n|---|---|---:|---|---|---|\n");
        for row in &self.rows {
            let reached = row.reached.map_or("", |reached| if reached { "reached" } else { "**missed**" });
            let figure = shown(row.value, row.unit);
            let _ = writeln!(text, "| {} | {} | {figure} | {} | {} | {reached} |", row.section, row.what, row.unit, aim(row));
        }
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        text.push('\n');
        text
    }

    /// Writes `<dir>/bench.json` and `<dir>/bench.md`.
    pub fn write(&self, dir: &Path, machine: &Machine, mode: &str) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let json = json!({ "machine": machine, "mode": mode, "rows": self.rows, "notes": self.notes });
        std::fs::write(dir.join("bench.json"), serde_json::to_vec_pretty(&json)?)?;
        std::fs::write(dir.join("bench.md"), self.markdown(machine, mode))?;
        println!("\nwritten: {0}/bench.json and {0}/bench.md", dir.display());
        Ok(())
    }

    /// Puts the table in place of the last recorded one.
    pub fn record(&self, document: &Path, machine: &Machine, mode: &str) -> Result<()> {
        let (before, after) = around_place(document)?;
        let table = self.markdown(machine, mode);
        std::fs::write(document, format!("{before}{}\n\n{table}\n{}{after}", MARKS[0], MARKS[1]))?;
        println!("recorded in {}", document.display());
        Ok(())
    }
}

/// An error unless a run can be recorded in this document.
pub fn check_place(document: &Path) -> Result<()> {
    around_place(document).map(drop)
}

/// What stands before and after the last recorded run.
fn around_place(document: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(document).with_context(|| document.display().to_string())?;
    let (before, rest) = text.split_once(MARKS[0]).context("the document has no place for a run")?;
    let (_, after) = rest.split_once(MARKS[1]).context("the place for a run has no end")?;
    Ok((before.to_owned(), after.to_owned()))
}

fn plain(row: &Row) -> String {
    let reached = row.reached.map_or("", |reached| if reached { "reached" } else { "MISSED" });
    format!("{:<74} {:>12} {:<12} {:>8} {reached}", row.what, shown(row.value, row.unit), row.unit, aim(row))
}

fn aim(row: &Row) -> String {
    match row.aim {
        Some(Aim::AtLeast(least)) => format!("≥ {}", shown(least, row.unit)),
        Some(Aim::AtMost(most)) => format!("≤ {}", shown(most, row.unit)),
        None => String::new(),
    }
}

/// Two decimals for what is small or a ratio; none for what is large.
fn shown(value: f64, unit: &str) -> String {
    if unit == "ratio" || value.abs() < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
