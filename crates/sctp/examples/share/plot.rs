//! Two curves over time as an SVG that can be read on light and on dark ground.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 36.0;
/// Seconds between two points.
const STEP: f64 = 0.1;

/// A line of points, one each tenth of a second.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<f64>,
}

/// A picture.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) unit: String,
    /// The value at the upper edge.
    pub(crate) top: f64,
    pub(crate) curves: Vec<Curve>,
}

impl Plot {
    /// Writes the picture.
    pub(crate) fn svg(&self) -> String {
        let count = self.curves.iter().map(|curve| curve.points.len()).max().unwrap_or(1);
        let seconds = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * STEP;
        let x = |time: f64| LEFT + time / seconds * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - (value / self.top).min(1.0) * (HEIGHT - TOP - BOTTOM);
        let mut svg = String::new();
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
             <style>\n\
             text {{ fill: #24292f }} .grid {{ stroke: #d0d7de }} .ground {{ fill: #ffffff }}\n\
             .c0 {{ stroke: #0969da }} .k0 {{ fill: #0969da }} .c1 {{ stroke: #bc4c00 }} .k1 {{ fill: #bc4c00 }}\n\
             @media (prefers-color-scheme: dark) {{\n\
             text {{ fill: #e6edf3 }} .grid {{ stroke: #3d444d }} .ground {{ fill: #0d1117 }}\n\
             .c0 {{ stroke: #58a6ff }} .k0 {{ fill: #58a6ff }} .c1 {{ stroke: #f0883e }} .k1 {{ fill: #f0883e }}\n\
             }}\n</style>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"600\">{title}</text>\n",
            title = self.title,
        );
        for quarter in 0..=4 {
            let value = self.top * f64::from(quarter) / 4.0;
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y(value) + 4.0,
                y = y(value),
            );
        }
        let mut second = 0.0;
        while second <= seconds {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>",
                x(second),
                HEIGHT - BOTTOM + 18.0
            );
            second += 5.0;
        }
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"42\" text-anchor=\"end\">{}</text>", LEFT - 6.0, self.unit);
        for (index, curve) in self.curves.iter().enumerate() {
            let mut points = String::new();
            let mut time = 0.0;
            for &value in &curve.points {
                let _ = write!(points, "{:.1},{:.1} ", x(time), y(value));
                time += STEP;
            }
            let _ = writeln!(
                svg,
                "<polyline class=\"c{index}\" fill=\"none\" stroke-width=\"1.6\" points=\"{}\"/>",
                points.trim_end()
            );
            let key = LEFT + 130.0 * f64::from(u32::try_from(index).unwrap_or(0));
            let _ = writeln!(
                svg,
                "<rect class=\"k{index}\" x=\"{key:.1}\" y=\"33\" width=\"14\" height=\"4\"/>\
                 <text x=\"{:.1}\" y=\"40\">{}</text>",
                key + 20.0,
                curve.name
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}
