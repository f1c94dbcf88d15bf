//! One scenario's table: a figure a line with its value in every run, told as Markdown.

use std::fmt;

use crate::figures::{median, range, written};

/// The figures of one scenario.
#[derive(Debug)]
pub(crate) struct Sheet {
    title: &'static str,
    lines: Vec<Line>,
    remarks: Vec<String>,
    /// The CPU pressure during the runs, in percent.
    pub(crate) pressure: u64,
}

#[derive(Debug)]
struct Line {
    what: String,
    unit: &'static str,
    values: Vec<f64>,
    /// Whom it stands beside: a line of the same sheet.
    peer: Option<String>,
}

impl Sheet {
    pub(crate) const fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new(), remarks: Vec::new(), pressure: 0 }
    }

    /// Notes one run's value.
    pub(crate) fn note(&mut self, what: &str, unit: &'static str, value: f64) {
        match self.lines.iter_mut().find(|line| line.what == what && line.unit == unit) {
            Some(line) => line.values.push(value),
            None => {
                self.lines.push(Line { what: what.to_owned(), unit, values: vec![value], peer: None });
            }
        }
    }

    /// Sets a line beside another one: run by run, then the median of the ratios.
    pub(crate) fn beside(&mut self, what: &str, peer: &str) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.what == what) {
            line.peer = Some(peer.to_owned());
        }
    }

    /// The median of a line's values.
    pub(crate) fn median(&self, what: &str) -> Option<f64> {
        median(&self.lines.iter().find(|line| line.what == what)?.values)
    }

    /// The median of a line's values where several lines are told apart by their unit.
    pub(crate) fn median_in(&self, what: &str, unit: &str) -> Option<f64> {
        median(&self.lines.iter().find(|line| line.what == what && line.unit == unit)?.values)
    }

    /// Adds a sentence on what the figures include.
    pub(crate) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    fn ratio(&self, line: &Line) -> String {
        let peer = line.peer.as_ref().and_then(|peer| self.lines.iter().find(|line| line.what == *peer));
        let Some(peer) = peer else { return String::new() };
        let ratios: Vec<f64> =
            line.values.iter().zip(&peer.values).map(|(own, theirs)| own / theirs).collect();
        median(&ratios).map_or_else(String::new, |ratio| format!("{} × {}", written(ratio), peer.what))
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
        let plural = if runs == 1 { "" } else { "s" };
        writeln!(f, "### {}\n", self.title)?;
        let has_peers = self.lines.iter().any(|line| line.peer.is_some());
        let (head, rule) = if has_peers { (" beside |", " --- |") } else { ("", "") };
        writeln!(f, "| what | median | lowest to highest | unit |{head}")?;
        writeln!(f, "| --- | --- | --- | --- |{rule}")?;
        for line in &self.lines {
            let middle = median(&line.values).map_or_else(|| "–".to_owned(), written);
            let (low, high) = range(&line.values).unwrap_or_default();
            let (low, high) = (written(low), written(high));
            let beside = if has_peers { format!(" {} |", self.ratio(line)) } else { String::new() };
            writeln!(f, "| {} | {middle} | {low} to {high} | {} |{beside}", line.what, line.unit)?;
        }
        writeln!(f, "\n{runs} run{plural}; CPU pressure {} %.", self.pressure)?;
        self.remarks.iter().try_for_each(|remark| writeln!(f, "{remark}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_tells_medians_ranges_and_ratios_run_by_run() {
        let mut sheet = Sheet::new("Speed");
        for (ours, theirs) in [(1.0, 2.0), (3.0, 4.0), (10.0, 40.0)] {
            sheet.note("ours", "s", ours);
            sheet.note("peer", "s", theirs);
        }
        sheet.beside("ours", "peer");
        sheet.remark("It includes everything.");
        sheet.pressure = 12;
        let expected = "\
### Speed

| what | median | lowest to highest | unit | beside |
| --- | --- | --- | --- | --- |
| ours | 3.00 | 1.00 to 10.0 | s | 0.50 × peer |
| peer | 4.00 | 2.00 to 40.0 | s |  |

3 runs; CPU pressure 12 %.
It includes everything.
";
        assert_eq!(sheet.to_string(), expected);
    }

    #[test]
    fn a_sheet_without_peers_has_no_column_for_them() {
        let mut sheet = Sheet::new("Size");
        sheet.note("all of it", "KiB", 19.0);
        assert!(
            sheet.to_string().contains("| all of it | 19.0 | 19.0 to 19.0 | KiB |\n\n1 run; "),
            "{sheet}"
        );
    }
}
