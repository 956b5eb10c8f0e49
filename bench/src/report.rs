//! The table: on the terminal while it grows, and as a page at the end.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::{Result, machine};

/// What stands below this line on the page is written by hand and stays.
const BY_HAND: &str = "<!-- What follows is written by hand; `make bench` keeps it. -->";

/// What a row should reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Printed for its own sake.
    None,
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: String,
    pub(crate) floor: String,
    /// What the target is about: a ratio, or the figure itself.
    pub(crate) figure: f64,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    pub(crate) note: String,
}

impl Row {
    fn figure(&self) -> String {
        if self.unit.is_empty() {
            format!("{:.2}", self.figure)
        } else {
            format!("{:.1} {}", self.figure, self.unit)
        }
    }

    fn target(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        match self.target {
            Target::AtLeast(least) => format!("≥ {least}{unit}"),
            Target::AtMost(most) => format!("≤ {most}{unit}"),
            Target::None => "–".to_owned(),
        }
    }

    fn verdict(&self) -> &'static str {
        let is_met = match self.target {
            Target::AtLeast(least) => self.figure >= least,
            Target::AtMost(most) => self.figure <= most,
            Target::None => return "–",
        };
        if is_met { "met" } else { "**missed**" }
    }

    /// One line for the terminal.
    pub(crate) fn line(&self) -> String {
        let (figure, target, verdict) = (self.figure(), self.target(), self.verdict().trim_matches('*'));
        let Self { name, ours, floor, note, .. } = self;
        format!("{name}: {ours} | floor {floor} | {figure} ({target}, {verdict})  {note}")
    }
}

/// Writes the page; keeps what was written by hand.
pub(crate) fn write(page: &Path, rows: &[Row], load: &str, minutes: f64) -> Result<()> {
    let old = fs::read_to_string(page).unwrap_or_default();
    let by_hand = old.split_once(BY_HAND).map_or("\n", |(_, kept)| kept);
    let mut text = String::from(include_str!("report/head.md"));
    text.push_str("\n## Where and what\n\n| | |\n|---|---|\n");
    for (name, value) in machine::describe() {
        writeln!(text, "| {name} | {value} |")?;
    }
    writeln!(text, "| other load | {load} |\n| took | {minutes:.1} min |")?;
    text.push_str(
        "\n## Figures\n\n| row | gateway | floor | ratio or figure | target | |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let (figure, target, verdict) = (row.figure(), row.target(), row.verdict());
        let Row { name, ours, floor, .. } = row;
        writeln!(text, "| {name} | {ours} | {floor} | {figure} | {target} | {verdict} |")?;
    }
    text.push_str("\nBeside them:\n\n");
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        writeln!(text, "- {}: {}", row.name, row.note)?;
    }
    write!(text, "\n{BY_HAND}{by_hand}")?;
    Ok(fs::write(page, text)?)
}
