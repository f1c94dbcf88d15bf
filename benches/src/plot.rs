//! Bars as SVG: groups of one bar for each of a few senders, written with their figures, readable on light and dark.

use std::fmt::Write as _;

use crate::figures::written;

/// Pixels.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 200.0;
/// Room behind the longest bar for its figure.
const RIGHT: f64 = 70.0;
const BAR: f64 = 16.0;
const GAP: f64 = 14.0;
const TOP: f64 = 74.0;

/// Told apart with any kind of colour vision, on white as on black (Okabe and Ito 2008).
const COLOURS: [&str; 3] = ["#0072b2", "#e69f00", "#999999"];

/// One group of bars.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// A figure for each series; none where it was not measured.
    pub(crate) values: Vec<Option<f64>>,
}

/// Draws the groups below each other.
pub(crate) fn bars(title: &str, unit: &str, series: &[&str], groups: &[Group]) -> String {
    let count = series.len() as f64;
    let height = TOP + groups.len() as f64 * (count * BAR + GAP) + 6.0;
    let highest = groups.iter().flat_map(|group| &group.values).flatten().fold(0.0, |a: f64, b| a.max(*b));
    let scale = if highest > 0.0 { (WIDTH - LEFT - RIGHT) / highest } else { 0.0 };
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13" role="img">
<title>{title}</title>
<style>
  text {{ fill: #1f2328 }} line {{ stroke: #8c959f }}
  @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} line {{ stroke: #7d8590 }} }}
</style>
<text x="12" y="24" font-size="16" font-weight="600">{title}, {unit}</text>
"#
    );
    // Writing into a String does not fail.
    for (at, (name, colour)) in series.iter().zip(COLOURS).enumerate() {
        let x = 12.0 + at as f64 * 150.0;
        let _ = writeln!(
            svg,
            r#"<rect x="{x}" y="40" width="12" height="12" fill="{colour}"/><text x="{}" y="51">{name}</text>"#,
            x + 18.0
        );
    }
    for (at, group) in groups.iter().enumerate() {
        let y = TOP + at as f64 * (count * BAR + GAP);
        let middle = y + count * BAR / 2.0 + 4.5;
        let _ = writeln!(
            svg,
            r#"<text x="{}" y="{middle}" text-anchor="end">{}</text>"#,
            LEFT - 10.0,
            group.name
        );
        for (bar, (value, colour)) in group.values.iter().zip(COLOURS).enumerate() {
            let top = y + bar as f64 * BAR;
            let (width, figure) =
                value.map_or((0.0, "–".to_owned()), |value| (value * scale, written(value)));
            let _ = writeln!(
                svg,
                r#"<rect x="{LEFT}" y="{top}" width="{width:.1}" height="{}" fill="{colour}"/><text x="{:.1}" y="{}" font-size="12">{figure}</text>"#,
                BAR - 2.0,
                LEFT + width + 6.0,
                top + 11.5
            );
        }
        let _ = writeln!(svg, r#"<line x1="{LEFT}" y1="{y}" x2="{LEFT}" y2="{}"/>"#, y + count * BAR - 2.0);
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_highest_figure_and_what_is_missing_has_none() {
        let groups = [
            Group { name: "one".to_owned(), values: vec![Some(1.0), Some(4.0)] },
            Group { name: "two".to_owned(), values: vec![None, Some(2.0)] },
        ];
        let svg = bars("Cost", "s", &["a", "b"], &groups);
        let widths: Vec<&str> =
            svg.split("width=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(widths, ["12", "12", "122.5", "490.0", "0.0", "245.0"], "{svg}");
        assert!(svg.contains(">4.00</text>") && svg.contains(">–</text>"), "{svg}");
    }
}
