//! Charts as SVG: what every plot of a report is drawn with.
//!
//! The drawing itself is plotters' SVG backend, used on plain pixels: a chart here needs its own ticks (units on every
//! label, powers of ten) and must not depend on fonts that happen to be installed. Each is drawn at twice its size on
//! the page, because the backend rounds to whole pixels. Colours are those of the light theme; [`theme_css`] turns them
//! for the dark one, by attribute, so that a viewer without style sheets still shows the light one.

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::text::printable;

/// Colours of the light theme, each with its name on the page and its counterpart in the dark theme.
pub(super) const INK: RGBColor = RGBColor(0x1B, 0x24, 0x30);
pub(super) const MUTED: RGBColor = RGBColor(0x5B, 0x66, 0x75);
pub(super) const QUIET: RGBColor = RGBColor(0x9A, 0xA4, 0xB2);
pub(super) const GRID: RGBColor = RGBColor(0xE3, 0xE7, 0xEC);
pub(super) const SURFACE: RGBColor = RGBColor(0xFF, 0xFF, 0xFE);
pub(super) const ACCENT: RGBColor = RGBColor(0x0B, 0x7A, 0x75);
const THEME: [(RGBColor, &str); 6] = [
    (INK, "#E4E9F0"),
    (MUTED, "#9AA5B4"),
    (QUIET, "#66717F"),
    (GRID, "#2B333D"),
    (SURFACE, "#171C23"),
    (ACCENT, "#3CC4B6"),
];

/// Height of text, in drawn pixels: 13 on the page.
const FONT: i32 = 26;
/// plotters writes a font size divided by this.
const FONT_FACTOR: f64 = 1.24;
pub(super) const LINE: i32 = 40;

/// The style sheet that every SVG of a report needs.
pub(super) fn theme_css() -> String {
    let rules: String = THEME
        .iter()
        .map(|(light, dark)| {
            let light = hex(*light);
            format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}")
        })
        .collect();
    format!(
        "svg text{{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif}}\
         svg polyline{{stroke-linejoin:round}}@media(prefers-color-scheme:dark){{{rules}}}"
    )
}

/// A colour as plotters writes it.
fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// A drawn plot.
pub(super) struct Plot {
    /// The file name without its ending.
    pub(super) name: &'static str,
    /// What it shows, in words, with the numbers of samples.
    pub(super) caption: String,
    /// Width and height as drawn: twice those on the page.
    size: (i32, i32),
    svg: String,
}

impl Plot {
    /// A drawing made elsewhere with [`draw`].
    pub(super) fn new(name: &'static str, caption: String, size: (i32, i32), svg: String) -> Self {
        Self { name, caption, size, svg }
    }

    /// The SVG as part of a page that has [`theme_css`].
    pub(super) fn inline(&self) -> &str {
        &self.svg
    }

    /// The SVG as a file of its own: with its caption, and a margin around it.
    pub(super) fn file(&self) -> String {
        const MARGIN: i32 = 40;
        const CAPTION: i32 = 60;
        let (width, height) = (self.size.0 + 2 * MARGIN, self.size.1 + 2 * MARGIN + CAPTION);
        let (left, top) = (-MARGIN, -MARGIN - CAPTION);
        let (surface, ink) = (hex(SURFACE), hex(INK));
        let caption = maud::html! { (printable(&self.caption)) }.into_string();
        let body = self.svg.split_once('\n').map_or("", |(_, body)| body);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
             viewBox=\"{left} {top} {width} {height}\">\n<title>{caption}</title>\n<style>{}</style>\n\
             <rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"{surface}\"/>\n\
             <text x=\"0\" y=\"-36\" font-family=\"sans-serif\" font-size=\"30\" font-weight=\"bold\" fill=\"{ink}\">\
             {caption}</text>\n{body}",
            width / 2,
            height / 2,
            theme_css()
        )
    }
}

/// How a line stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// What the plot is about.
    Accent,
    /// What it is compared with.
    Ink,
    /// What is only there for orientation.
    Quiet,
}

impl Tone {
    fn style(self) -> ShapeStyle {
        match self {
            Self::Accent => ACCENT.stroke_width(7),
            Self::Ink => INK.stroke_width(3),
            Self::Quiet => QUIET.stroke_width(4),
        }
    }
}

/// A line.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) tone: Tone,
    pub(super) points: Vec<(f64, f64)>,
}

/// An axis from the first tick to the last, or beyond them.
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) range: (f64, f64),
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From zero to at least `max`, in round steps.
    pub(super) fn linear(label: &str, max: f64, unit: &str) -> Self {
        let step = round_step(max / 5.0);
        let last = (max / step).ceil().max(1.0);
        let digits = if step >= 1.0 { 0 } else { (-step.log10()).ceil() as usize };
        let ticks = (0..=last as u32).map(|index| {
            let value = f64::from(index) * step;
            let number =
                if digits == 0 { super::text::count(value as u64) } else { format!("{value:.digits$}") };
            (value, format!("{number}{unit}"))
        });
        Self { label: label.to_owned(), range: (0.0, last * step), ticks: ticks.collect() }
    }

    /// From zero to exactly `max`, in round steps.
    pub(super) fn until(label: &str, max: f64, unit: &str) -> Self {
        let mut axis = Self::linear(label, max, unit);
        axis.range.1 = max;
        axis.ticks.retain(|(value, _)| *value <= max);
        axis
    }

    /// Logarithmic over spans of time in nanoseconds, from below `min` to above `max`. Positions are powers of ten.
    pub(super) fn log_time(label: &str, min: u64, max: u64) -> Self {
        let (low, high) = (exponent(min).floor(), exponent(max).ceil());
        let high = if high > low { high } else { low + 1.0 };
        let ticks = (low as u32..=high as u32).map(|power| {
            let nanos = 10u64.pow(power);
            (f64::from(power), super::text::duration(nanos).replace(".00", "").replace(".0", ""))
        });
        Self { label: label.to_owned(), range: (low, high), ticks: ticks.collect() }
    }
}

/// Where a span stands on a logarithmic axis.
pub(super) fn exponent(nanos: u64) -> f64 {
    (nanos.max(1) as f64).log10()
}

/// 1, 2 or 5 times a power of ten, not below `least`.
pub(super) fn round_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= least * 0.999_999);
    fits.unwrap_or(10.0) * power
}

/// Lines over two axes, with a legend above.
pub(super) fn chart(name: &'static str, caption: String, x: &Axis, y: &Axis, series: &[Series]) -> Plot {
    const WIDTH: i32 = 960;
    const HEIGHT: i32 = 600;
    let svg = draw(WIDTH, HEIGHT, |canvas| {
        let top = canvas.legend(series, WIDTH) + LINE + 24;
        let frame = Frame { left: 116, right: WIDTH - 50, top, bottom: HEIGHT - 92, x: x.range, y: y.range };
        canvas.axes(&frame, x, y);
        // The accent is wider than the ink on it, so that both show where they meet.
        for tone in [Tone::Quiet, Tone::Accent, Tone::Ink] {
            for line in series.iter().filter(|line| line.tone == tone) {
                canvas.line(&frame, &line.points, tone.style());
            }
        }
    });
    Plot { name, caption, size: (WIDTH, HEIGHT), svg }
}

/// A mark across strips.
pub(super) struct Mark {
    pub(super) at: f64,
    /// Labels to choose from, the most telling first; the first that fits is shown.
    pub(super) labels: Vec<String>,
}

/// One strip of bars: how many of something in each interval.
pub(super) struct Strip {
    pub(super) name: String,
    pub(super) tone: Tone,
    pub(super) counts: Vec<u64>,
}

/// Strips of bars over one time axis, with marks across them.
pub(super) fn strips(
    name: &'static str,
    caption: String,
    x: &Axis,
    bin: f64,
    strips: &[Strip],
    marks: &[Mark],
) -> Plot {
    const WIDTH: i32 = 2080;
    const STRIP: i32 = 110;
    const GAP: i32 = 34;
    const ROWS: i32 = 4;
    let head = if marks.is_empty() { 10 } else { LINE * ROWS + 12 };
    let bottom = head + strips.len() as i32 * (STRIP + GAP);
    let height = bottom + 96;
    let svg = draw(WIDTH, height, |canvas| {
        let (left, right) = (210, WIDTH - 60);
        let whole = Frame { left, right, top: head, bottom, x: x.range, y: (0.0, 1.0) };
        for mark in marks {
            let at = whole.x(mark.at);
            canvas.path(vec![(at, head - 8), (at, bottom)], QUIET.stroke_width(2));
        }
        canvas.marks(&whole, marks, ROWS);
        for (index, strip) in strips.iter().enumerate() {
            let top = head + GAP + index as i32 * (STRIP + GAP);
            let highest = strip.counts.iter().copied().max().unwrap_or_default();
            let y = (0.0, highest.max(1) as f64);
            let frame = Frame { left, right, top, bottom: top + STRIP, x: x.range, y };
            canvas.path(vec![(left, frame.bottom), (right, frame.bottom)], GRID.stroke_width(2));
            canvas.text(&strip.name, (0, frame.bottom - STRIP / 2), INK, HPos::Left, VPos::Center);
            if highest > 0 {
                let label = super::text::count(highest);
                canvas.text(&label, (left - 16, top), MUTED, HPos::Right, VPos::Center);
            }
            canvas.text("0", (left - 16, frame.bottom), MUTED, HPos::Right, VPos::Center);
            for (place, count) in strip.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let from = place as f64 * bin;
                let (from, to) = (frame.x(from), frame.x((from + bin).min(x.range.1)));
                let height = (frame.bottom - frame.y(*count as f64)).max(3);
                let style = strip.tone.style().color.filled();
                canvas.rectangle(
                    (from, frame.bottom - height),
                    ((to - 2).max(from + 2), frame.bottom),
                    style,
                );
            }
        }
        for (value, label) in &x.ticks {
            let at = whole.x(*value);
            canvas.path(vec![(at, bottom), (at, bottom + 8)], QUIET.stroke_width(2));
            canvas.text(label, (at, bottom + 16), MUTED, HPos::Center, VPos::Top);
        }
        canvas.text(&x.label, (left, bottom + 56), MUTED, HPos::Left, VPos::Top);
    });
    Plot { name, caption, size: (WIDTH, height), svg }
}

/// An SVG of this size, twice that on the page.
pub(super) fn draw(width: i32, height: i32, paint: impl FnOnce(&mut Canvas<'_>)) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
        let mut canvas = Canvas { area };
        canvas.rectangle((0, 0), (width, height), SURFACE.filled());
        paint(&mut canvas);
        canvas.area.present().expect(WRITES_TO_MEMORY);
    }
    svg
}

const WRITES_TO_MEMORY: &str = "drawing into a string can't fail";

/// Where values stand.
struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn x(&self, value: f64) -> i32 {
        let share = (value - self.x.0) / (self.x.1 - self.x.0);
        self.left + (share * f64::from(self.right - self.left)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        let share = (value - self.y.0) / (self.y.1 - self.y.0);
        self.bottom - (share * f64::from(self.bottom - self.top)).round() as i32
    }
}

/// What is drawn on.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

impl Canvas<'_> {
    pub(super) fn text(&mut self, text: &str, at: (i32, i32), color: RGBColor, x: HPos, y: VPos) {
        let font = ("sans-serif", f64::from(FONT) * FONT_FACTOR).into_font();
        let style = TextStyle::from(font).color(&color).pos(Pos::new(x, y));
        self.area.draw_text(&printable(text), &style, at).expect(WRITES_TO_MEMORY);
    }

    pub(super) fn path(&mut self, points: Vec<(i32, i32)>, style: ShapeStyle) {
        self.area.draw(&PathElement::new(points, style)).expect(WRITES_TO_MEMORY);
    }

    /// A dot on a line.
    pub(super) fn dot(&mut self, at: (i32, i32), color: RGBColor) {
        self.area.draw(&Circle::new(at, 9, color.filled())).expect(WRITES_TO_MEMORY);
    }

    pub(super) fn rectangle(&mut self, from: (i32, i32), to: (i32, i32), style: ShapeStyle) {
        self.area.draw(&Rectangle::new([from, to], style)).expect(WRITES_TO_MEMORY);
    }

    /// Draws a line without the points that change no pixel.
    fn line(&mut self, frame: &Frame, points: &[(f64, f64)], style: ShapeStyle) {
        let mut pixels: Vec<(i32, i32)> = Vec::new();
        for (x, y) in points {
            let pixel = (frame.x(*x), frame.y(*y));
            if let [.., before, last] = pixels[..] {
                let is_straight =
                    (before.0 == last.0 && last.0 == pixel.0) || (before.1 == last.1 && last.1 == pixel.1);
                let is_onward =
                    (before.1..=pixel.1).contains(&last.1) || (pixel.1..=before.1).contains(&last.1);
                if is_straight && is_onward && pixel.0 >= last.0 {
                    pixels.pop();
                }
            }
            if pixels.last() != Some(&pixel) {
                pixels.push(pixel);
            }
        }
        if pixels.len() > 1 {
            self.path(pixels, style);
        }
    }

    fn axes(&mut self, frame: &Frame, x: &Axis, y: &Axis) {
        for (value, label) in &y.ticks {
            let at = frame.y(*value);
            self.path(vec![(frame.left, at), (frame.right, at)], GRID.stroke_width(2));
            self.text(label, (frame.left - 16, at), MUTED, HPos::Right, VPos::Center);
        }
        for (value, label) in &x.ticks {
            let at = frame.x(*value);
            self.path(vec![(at, frame.bottom), (at, frame.bottom + 8)], QUIET.stroke_width(2));
            self.text(label, (at, frame.bottom + 16), MUTED, HPos::Center, VPos::Top);
        }
        self.path(vec![(frame.left, frame.bottom), (frame.right, frame.bottom)], QUIET.stroke_width(2));
        self.text(&y.label, (0, frame.top - LINE), MUTED, HPos::Left, VPos::Center);
        let middle = i32::midpoint(frame.left, frame.right);
        self.text(&x.label, (middle, frame.bottom + 56), MUTED, HPos::Center, VPos::Top);
    }

    /// Draws the names of the series in as few rows as they need; gives the height they took.
    fn legend(&mut self, series: &[Series], width: i32) -> i32 {
        const SWATCH: i32 = 40;
        let (mut x, mut y) = (0, LINE / 2);
        for line in series {
            let needed = SWATCH + 14 + text_width(&line.name);
            if x > 0 && x + needed > width {
                (x, y) = (0, y + LINE);
            }
            self.path(vec![(x, y), (x + SWATCH, y)], line.tone.style());
            self.text(&line.name, (x + SWATCH + 14, y), INK, HPos::Left, VPos::Center);
            x += needed + 36;
        }
        if series.is_empty() { 0 } else { y + LINE / 2 }
    }

    /// Hangs each label like a flag beside its mark, in the lowest row where no flag and no pole is in the way; takes a
    /// shorter label where none is free, and leaves it out at last.
    fn marks(&mut self, frame: &Frame, marks: &[Mark], rows: i32) {
        let mut flags: Vec<Flag> = Vec::new();
        // From the right: a flag reaches over the poles that follow it, so these must be the shorter ones.
        for mark in marks.iter().rev() {
            let pole = frame.x(mark.at);
            let candidates = mark.labels.iter().flat_map(|label| {
                let span = (pole + 8, pole + 8 + text_width(label));
                (0..rows).map(move |row| (label, Flag { pole, row, span }))
            });
            let is_free =
                |flag: &Flag| flag.span.1 <= frame.right + 60 && flags.iter().all(|other| !flag.meets(other));
            let Some((label, flag)) = candidates.into_iter().find(|(_, flag)| is_free(flag)) else {
                continue;
            };
            let y = frame.top - 8 - LINE / 2 - LINE * flag.row;
            self.text(label, (flag.span.0, y), INK, HPos::Left, VPos::Center);
            self.path(vec![(pole, y - LINE / 2 + 4), (pole, frame.top - 8)], QUIET.stroke_width(2));
            flags.push(flag);
        }
    }
}

/// A label beside its mark; row 0 is the lowest.
struct Flag {
    pole: i32,
    row: i32,
    span: (i32, i32),
}

impl Flag {
    fn meets(&self, other: &Self) -> bool {
        let cuts = |pole: &Self, flag: &Self| {
            pole.row > flag.row && (flag.span.0..flag.span.1 + 12).contains(&pole.pole)
        };
        let share =
            self.row == other.row && self.span.0 < other.span.1 + 12 && other.span.0 < self.span.1 + 12;
        share || cuts(self, other) || cuts(other, self)
    }
}

/// About how wide a text is drawn; fonts differ, so it is generous.
pub(super) fn text_width(text: &str) -> i32 {
    (text.chars().count() as f64 * f64::from(FONT) * 0.58).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_of_axes_are_round() {
        for (least, step) in [(0.0, 1.0), (0.03, 0.05), (1.0, 1.0), (1.1, 2.0), (23.0, 50.0), (51.0, 100.0)] {
            assert!((round_step(least) - step).abs() < step * 1e-9, "{least}: {}", round_step(least));
        }
    }

    #[test]
    fn a_logarithmic_axis_spans_whole_powers_of_ten_with_units() {
        let axis = Axis::log_time("latency", 812_000, 240_000_000);
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let flat = Axis::log_time("latency", 1_000_000, 1_000_000);
        assert!(flat.range.1 > flat.range.0);
    }

    #[test]
    fn hostile_names_stay_text() {
        let series = [Series {
            name: "</text><script>\u{0}".to_owned(),
            tone: Tone::Ink,
            points: vec![(0.0, 0.0), (1.0, 1.0)],
        }];
        let axis = Axis::linear("<b>", 1.0, " s");
        let plot = chart("x", String::new(), &axis, &axis, &series);
        assert!(!plot.inline().contains("<script") && !plot.inline().contains("<b>"));
        assert!(!plot.inline().contains('\u{0}'));
    }

    proptest! {
        #[test]
        fn an_axis_reaches_its_maximum(max in 0.0001f64..1e9) {
            let axis = Axis::linear("x", max, "");
            prop_assert!(axis.range.1 >= max * 0.999_999 && axis.ticks.len() <= 12, "{:?}", axis.range);
        }
    }
}
