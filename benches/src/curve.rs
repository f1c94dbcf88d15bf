//! One line over numbers as SVG, each point written with its figure, readable on light and dark.

use std::fmt::Write as _;

use crate::figures::written;

/// Pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;

/// Seen with any kind of colour vision, on white as on black (Okabe and Ito 2008).
const COLOUR: &str = "#0072b2";

/// Draws `points`, both axes from zero.
pub(crate) fn draw(title: &str, across: &str, unit: &str, points: &[(f64, f64)]) -> String {
    let highest =
        |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let (widest, tallest) = (highest(|point| point.0), highest(|point| point.1));
    let x = |value: f64| LEFT + value / widest * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / tallest * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13" role="img">
<title>{title}</title>
<style>
  text {{ fill: #1f2328 }} .axis {{ stroke: #8c959f }}
  @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .axis {{ stroke: #7d8590 }} }}
</style>
<text x="12" y="24" font-size="16" font-weight="600">{title}, {unit}</text>
<line class="axis" x1="{LEFT}" y1="{0}" x2="{1}" y2="{0}"/>
<text x="{1}" y="{2}" text-anchor="end">{across}</text>
"#,
        y(0.0),
        WIDTH - RIGHT,
        HEIGHT - 6.0,
    );
    let path: Vec<String> =
        points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
    // Writing into a String does not fail.
    let _ = writeln!(
        svg,
        r#"<polyline points="{}" fill="none" stroke="{COLOUR}" stroke-width="2"/>"#,
        path.join(" ")
    );
    for (across, value) in points {
        let _ = writeln!(
            svg,
            r#"<circle cx="{0:.1}" cy="{1:.1}" r="3.5" fill="{COLOUR}"/><text x="{0:.1}" y="{2:.1}" text-anchor="middle">{3}</text><text x="{0:.1}" y="{4}" text-anchor="middle">{across}</text>"#,
            x(*across),
            y(*value),
            y(*value) - 9.0,
            written(*value),
            HEIGHT - BOTTOM + 18.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_its_place_and_its_figure() {
        let svg = draw("cost", "viewers", "%", &[(0.0, 0.0), (500.0, 20.0), (1_000.0, 40.0)]);
        assert!(svg.contains(r#"points="56.0,276.0 388.0,166.0 720.0,56.0""#), "{svg}");
        assert!(svg.contains(">40") && svg.contains(">1000<"), "{svg}");
    }
}
