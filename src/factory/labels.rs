//! Labels: printable A4 sheets as SVG, 24 to a page (63.5 × 33.9 mm, the common sheet of 3 × 8), and a QR code for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use qrcode::{Color, EcLevel, QrCode};

use super::files::{self, Mode};
use super::run::{Minted, RunChoice};
use super::{FactoryError, Workshop};
use crate::domain::ids::BrandId;

const COLUMNS: usize = 3;
const ROWS: usize = 8;
/// Labels on one page.
pub const PER_PAGE: usize = COLUMNS * ROWS;

// Millimetres: the sheet's margins, the distance from label to label, and the size of the QR code with its quiet zone.
const LEFT: f64 = 7.2;
const TOP: f64 = 12.9;
const ACROSS: f64 = 66.0;
const DOWN: f64 = 33.9;
const QR: f64 = 28.0;

/// Light modules that must surround a QR code.
const QUIET: usize = 4;

/// What was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelReport {
    /// How many labels.
    pub labels: usize,
    /// The files, one for each page.
    pub pages: Vec<PathBuf>,
}

/// A QR code in half blocks, two modules to a character, with its quiet zone. Light modules are drawn, for light text on a dark terminal; with
/// `colours`, the colours are set by escape sequences and it reads on every terminal.
///
/// # Errors
/// [`FactoryError::Qr`] when the text is too long.
pub fn terminal_qr(text: &str, colours: bool) -> Result<String, FactoryError> {
    let code = Modules::of(text)?;
    let margin = 2;
    let size = code.width + 2 * margin;
    let light = |x: usize, y: usize| {
        let inside = x.checked_sub(margin).zip(y.checked_sub(margin));
        y < size && !inside.is_some_and(|(x, y)| code.is_dark(x, y))
    };
    let mut drawn = String::new();
    for y in (0..size).step_by(2) {
        drawn.push_str(if colours { "\u{1b}[97;40m" } else { "" });
        drawn.extend((0..size).map(|x| match (light(x, y), light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        }));
        drawn.push_str(if colours { "\u{1b}[0m\n" } else { "\n" });
    }
    Ok(drawn)
}

impl Workshop {
    /// Draws the labels of the chosen runs: the first page at `out`, page n at `<name>-n.svg` beside it. They show claim codes, so the files are
    /// readable by their owner alone. Pages that are there already are replaced.
    ///
    /// # Errors
    /// [`FactoryError::NoRun`], or what is wrong with a file.
    pub fn labels(&self, brand: &BrandId, choice: &RunChoice, out: &Path) -> Result<LabelReport, FactoryError> {
        let owner = self.brand(brand)?;
        let runs = self.choose(brand, choice)?;
        let mut titles = BTreeMap::new();
        let mut report = LabelReport { labels: 0, pages: Vec::new() };
        let mut page = Vec::with_capacity(PER_PAGE);
        for device in runs.iter().flat_map(|run| run.devices()) {
            let device = device?;
            if !titles.contains_key(&device.model) {
                let (model, _) = self.model(&owner, &device.model)?;
                titles.insert(device.model.clone(), model.title);
            }
            page.push(device);
            if page.len() == PER_PAGE {
                report.add(out, &mut page, &titles)?;
            }
        }
        if !page.is_empty() {
            report.add(out, &mut page, &titles)?;
        }
        Ok(report)
    }
}

impl LabelReport {
    fn add(
        &mut self,
        out: &Path,
        page: &mut Vec<Minted>,
        titles: &BTreeMap<crate::domain::ids::ModelName, String>,
    ) -> Result<(), FactoryError> {
        let number = self.pages.len() + 1;
        let path = if number == 1 {
            out.to_path_buf()
        } else {
            let stem = out.file_stem().unwrap_or_default().to_string_lossy();
            out.with_file_name(format!("{stem}-{number}.svg"))
        };
        let mut svg = String::from(concat!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="210mm" height="297mm" viewBox="0 0 210 297">"#,
            r#"<rect width="210" height="297" fill="white"/>"#,
            "\n"
        ));
        for (at, device) in page.iter().enumerate() {
            let title = titles.get(&device.model).map_or("", String::as_str);
            draw(&mut svg, at, device, title)?;
        }
        svg.push_str("</svg>\n");
        files::replace(&path, Mode::Private, svg.as_bytes())?;
        self.labels += page.len();
        self.pages.push(path);
        page.clear();
        Ok(())
    }
}

/// Draws one label at place `at` of its page: the QR code to the left, title, code in three lines, id and serial number to the right.
fn draw(svg: &mut String, at: usize, device: &Minted, title: &str) -> Result<(), FactoryError> {
    let code = Modules::of(&device.code.qr_text(&device.device_id))?;
    #[expect(clippy::cast_precision_loss, reason = "below a few hundred")]
    let (x, y, scale) = (LEFT + ACROSS * (at % COLUMNS) as f64, TOP + DOWN * (at / COLUMNS) as f64, QR / (code.width + 2 * QUIET) as f64);
    let grouped = device.code.to_string();
    let groups: Vec<&str> = grouped.split('-').collect();
    let (id, title) = (device.device_id.as_str(), shortened(title, 21));
    let serial = escaped(&device.serial);
    // Writing into a string has no way to fail.
    let _ = write!(svg, r#"<g transform="translate({x:.2} {y:.2})" font-family="sans-serif">"#);
    let _ = write!(svg, r#"<g transform="translate(1 2) scale({scale:.4})" shape-rendering="crispEdges"><path d="{}"/></g>"#, code.path());
    let _ = write!(svg, r#"<text x="30" y="7" font-size="3.2" font-weight="bold">{}</text>"#, escaped(&title));
    for (line, groups) in groups.chunks(3).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "at most 2")]
        let y = 12.5 + 4.6 * line as f64;
        let _ = write!(svg, r#"<text x="30" y="{y:.1}" font-size="4" font-family="monospace">{}</text>"#, groups.join("-"));
    }
    let size = if id.len() > 20 { 33.0 * 1.6 / lossless(id.len()) } else { 2.6 };
    let _ = write!(svg, r#"<text x="30" y="26.5" font-size="{size:.2}" font-family="monospace">{id}</text>"#);
    let size = if serial.len() > 22 { 33.0 * 1.6 / lossless(serial.len()) } else { 2.4 };
    let _ = write!(svg, r#"<text x="30" y="30" font-size="{size:.2}" font-family="monospace">{serial}</text></g>"#);
    svg.push('\n');
    Ok(())
}

fn lossless(length: usize) -> f64 {
    u32::try_from(length).map_or(f64::MAX, f64::from)
}

fn shortened(text: &str, max: usize) -> String {
    if text.chars().count() <= max { text.to_owned() } else { text.chars().take(max - 1).chain(['…']).collect() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The modules of a QR code, without its quiet zone.
struct Modules {
    width: usize,
    colours: Vec<Color>,
}

impl Modules {
    /// Error correction M: about 15 % of the code may be damaged.
    fn of(text: &str) -> Result<Self, FactoryError> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(|_| FactoryError::Qr)?;
        Ok(Self { width: code.width(), colours: code.into_colors() })
    }

    fn is_dark(&self, x: usize, y: usize) -> bool {
        x < self.width && self.colours.get(y * self.width + x) == Some(&Color::Dark)
    }

    /// An SVG path of the dark modules, one rectangle for each unbroken row of them, offset by the quiet zone.
    fn path(&self) -> String {
        let mut path = String::new();
        for y in 0..self.width {
            let mut x = 0;
            while x < self.width {
                let run = (x..self.width).take_while(|&x| self.is_dark(x, y)).count();
                if run > 0 {
                    let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
                }
                x += run.max(1);
            }
        }
        path
    }
}
