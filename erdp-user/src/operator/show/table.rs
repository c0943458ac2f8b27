//! A table for people: columns that fit a page, colours where there is a terminal, and below a row what is wrong with it.
//!
//! A line has [`PAGE`] characters at most unless the wide table is asked for. What does not fit gives way in this order: columns that only the wide table
//! has, then the length of cells that may be cut, then whole columns, the least important first.

/// Characters in a line.
pub const PAGE: usize = 100;
/// Between two columns.
const GAP: &str = "  ";
/// In front of what stands below a row.
const INDENT: &str = "    ";

/// How a table is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// All columns, however long the lines.
    pub wide: bool,
    /// Colours.
    pub colours: bool,
}

/// What a word means for whoever reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Of less interest.
    Dim,
}

impl Tone {
    /// Select Graphic Rendition (ECMA-48 section 8.3.117).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Dim => "2",
        }
    }

    /// The text in the tone's colour.
    pub fn paint(self, text: &str, look: Look) -> String {
        match self.code() {
            code if look.colours && !code.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    heading: &'static str,
    /// Cells may be cut to so many characters.
    least: Option<usize>,
    /// Columns of a higher rank give way first; 0: never.
    rank: u8,
    /// Of the wide table only.
    is_wide: bool,
}

impl Column {
    /// One that is always there, whole.
    pub const fn new(heading: &'static str) -> Self {
        Self { heading, least: None, rank: 0, is_wide: false }
    }

    /// The same of the wide table only.
    pub const fn wide(heading: &'static str) -> Self {
        Self { heading, least: None, rank: 0, is_wide: true }
    }

    /// Its cells may be cut to so many characters.
    pub const fn least(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }

    /// It may be left out; those of a higher rank are first.
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// With a meaning.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: clean(text.into()), tone }
    }

    /// As text outside a table.
    pub fn painted(&self, look: Look) -> String {
        self.tone.paint(&self.text, look)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Without control characters, which peers and operators may have sent: none reaches a terminal.
pub fn clean(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// What stands below a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `why`, `next` and the like.
    pub label: String,
    /// The sentence.
    pub text: String,
    /// What it means.
    pub tone: Tone,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<(Vec<Cell>, Vec<Note>)>,
}

impl Table {
    /// Without rows.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column. An empty one, or `-`, says that there is no value.
    pub fn row(&mut self, cells: Vec<Cell>, notes: Vec<Note>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push((cells, notes));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether some cell of a column is cut.
    pub fn cuts(&self, heading: &str, look: Look) -> bool {
        let shown = self.shown(look);
        let at = shown.iter().find(|(at, _)| self.columns[*at].heading == heading);
        let is_longer = |width: usize, at: usize| self.cells(at).any(|cell| length(&cell.text) > width);
        at.is_none_or(|(at, width)| is_longer(*width, *at))
    }

    /// As text, each line with its end.
    pub fn text(&self, look: Look) -> String {
        let shown = self.shown(look);
        let headings = shown.iter().map(|(at, width)| (Cell::from(self.columns[*at].heading), *width));
        let mut text = line(headings.collect(), look);
        for (cells, notes) in &self.rows {
            let cells = shown.iter().map(|(at, width)| (cells[*at].clone(), *width));
            text += &line(cells.collect(), look);
            notes.iter().for_each(|it| text += &note(it, look));
        }
        text
    }

    fn cells(&self, at: usize) -> impl Iterator<Item = &Cell> {
        self.rows.iter().filter_map(move |(cells, _)| cells.get(at))
    }

    /// The columns that are shown, each with its width.
    fn shown(&self, look: Look) -> Vec<(usize, usize)> {
        let has_value = |at: &usize| self.cells(*at).any(|cell| !matches!(cell.text.as_str(), "" | "-"));
        let width = |at: usize| {
            let cells = self.cells(at).map(|cell| length(&cell.text)).max().unwrap_or(0);
            (at, cells.max(length(self.columns[at].heading)))
        };
        let is_shown = |at: &usize| look.wide || !self.columns[*at].is_wide;
        let mut shown: Vec<(usize, usize)> =
            (0..self.columns.len()).filter(is_shown).filter(has_value).map(width).collect();
        if !look.wide {
            self.fit(&mut shown);
        }
        shown
    }

    fn fit(&self, shown: &mut Vec<(usize, usize)>) {
        while self.narrow(shown) > PAGE {
            let rank = |(at, _): &(usize, usize)| self.columns[*at].rank;
            let Some((place, _)) =
                shown.iter().enumerate().filter(|(_, it)| rank(it) > 0).max_by_key(|(_, it)| rank(it))
            else {
                break;
            };
            shown.remove(place);
        }
        // Cells are cut as little as they have to be: the longest first.
        while total(shown) > PAGE {
            let room =
                |(at, width): &(usize, usize)| width.saturating_sub(self.least(*at).unwrap_or(usize::MAX));
            let Some(widest) = shown.iter_mut().filter(|it| room(it) > 0).max_by_key(|it| it.1) else {
                break;
            };
            widest.1 -= 1;
        }
        // Whatever is left: addresses may be of any length.
        while total(shown) > PAGE {
            let Some(widest) = shown.iter_mut().filter(|it| it.1 > 4).max_by_key(|it| it.1) else { break };
            widest.1 -= 1;
        }
    }

    /// What the columns take if all that may be cut is.
    fn narrow(&self, shown: &[(usize, usize)]) -> usize {
        let cut =
            |(at, width): &(usize, usize)| (*at, self.least(*at).map_or(*width, |least| least.min(*width)));
        total(&shown.iter().map(cut).collect::<Vec<_>>())
    }

    fn least(&self, at: usize) -> Option<usize> {
        let Column { least, heading, .. } = self.columns[at];
        least.map(|least| least.max(length(heading)))
    }
}

/// Text in lines that fit the page, indented.
pub fn note(note: &Note, look: Look) -> String {
    hanging(&format!("{INDENT}{}: ", note.label), &note.text, note.tone, look)
}

/// Text behind a label, in lines that fit the page and begin where the first one does.
pub fn hanging(label: &str, text: &str, tone: Tone, look: Look) -> String {
    let label = clean(label.to_owned());
    let width = if look.wide { usize::MAX } else { PAGE.saturating_sub(length(&label)) };
    let mut lines = String::new();
    for (at, part) in wrapped(&clean(text.to_owned()), width).iter().enumerate() {
        let front = if at == 0 { label.clone() } else { " ".repeat(length(&label)) };
        lines += &format!("{front}{}\n", tone.paint(part, look));
    }
    lines
}

/// The words in lines of so many characters; a word that is longer is broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(last) if length(last).saturating_add(1 + length(word)) <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ if length(word) <= width => lines.push(word.to_owned()),
            _ => {
                let letters: Vec<char> = word.chars().collect();
                lines.extend(letters.chunks(width.max(1)).map(|part| part.iter().collect::<String>()));
            }
        }
    }
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn total(shown: &[(usize, usize)]) -> usize {
    let cells: usize = shown.iter().map(|(_, width)| width).sum();
    cells + GAP.len() * shown.len().saturating_sub(1)
}

fn line(cells: Vec<(Cell, usize)>, look: Look) -> String {
    let mut text = String::new();
    let last = cells.len().saturating_sub(1);
    for (at, (cell, width)) in cells.iter().enumerate() {
        let cut = cut(&cell.text, *width);
        let padding = if at == last { 0 } else { width - length(&cut) + GAP.len() };
        text += &cell.tone.paint(&cut, look);
        text += &" ".repeat(padding);
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let front: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{front}…")
}

/// Seconds in the two largest units: `42s`, `3m12s`, `3h12m`, `2d4h`.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// As `1.25 Gb/s`.
pub fn bits(bps: u64) -> String {
    match bps {
        1_000_000_000.. => format!("{:.2} Gb/s", bps as f64 / 1e9),
        1_000_000.. => format!("{:.1} Mb/s", bps as f64 / 1e6),
        1_000.. => format!("{:.1} kb/s", bps as f64 / 1e3),
        _ => format!("{bps} b/s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NARROW: Look = Look { wide: false, colours: false };
    const COLUMNS: [Column; 5] = [
        Column::new("PEER"),
        Column::new("WHY").least(10),
        Column::new("UP").rank(1),
        Column::new("BFD").rank(2),
        Column::wide("ATTACHMENT"),
    ];

    fn table(peer: &str, why: &str) -> Table {
        let mut table = Table::new(&COLUMNS);
        let cells = [peer, why, "3h12m", "Up", "lab/private primary"];
        table.row(cells.map(Cell::from).to_vec(), vec![]);
        table
    }

    #[test]
    fn cells_are_cut_before_columns_are_left_out_and_the_least_important_goes_first() {
        let short = table("198.18.0.2", "fine").text(NARROW);
        assert_eq!(short, "PEER        WHY   UP     BFD\n198.18.0.2  fine  3h12m  Up\n");
        let long = table("198.18.0.2", &"x".repeat(90)).text(NARROW);
        assert!(
            long.contains("x…  3h12m  Up\n") && long.lines().all(|line| line.chars().count() <= 100),
            "{long}"
        );
        let longer = table(&"p".repeat(80), &"x".repeat(90)).text(NARROW);
        assert!(longer.contains("x…  3h12m\n") && !longer.contains("BFD"), "{longer}");
        let wide = table("198.18.0.2", &"x".repeat(90)).text(Look { wide: true, colours: false });
        assert!(wide.contains(&format!("{}  3h12m  Up   lab/private primary\n", "x".repeat(90))), "{wide}");
    }

    #[test]
    fn a_column_without_any_value_is_left_out() {
        let mut table = Table::new(&COLUMNS);
        for peer in ["a", "b"] {
            table.row([peer, "-", "", "Up", "x"].map(Cell::from).to_vec(), vec![]);
        }
        assert_eq!(table.text(NARROW), "PEER  BFD\na     Up\nb     Up\n");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let mut table = Table::new(&COLUMNS[..2]);
        let why = Note { label: "why".into(), text: "a long reason ".repeat(20), tone: Tone::Bad };
        table.row(vec!["a".into(), Cell::toned("Active", Tone::Bad)], vec![why]);
        let (plain, coloured) = (table.text(NARROW), table.text(Look { colours: true, wide: false }));
        assert!(coloured.contains("\x1b[31mActive\x1b[0m"), "{coloured}");
        let stripped = coloured.replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(stripped, plain);
        assert!(plain.lines().all(|line| line.chars().count() <= PAGE), "{plain}");
        assert!(plain.lines().skip(3).all(|line| line.starts_with("         ")), "{plain}");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let rows =
            [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_599, "59m59s"), (11_520, "3h12m"), (187_200, "2d4h")];
        for (seconds, text) in rows {
            assert_eq!(duration(seconds), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn no_line_is_longer_than_the_page(
            rows in proptest::collection::vec([".{0,60}", ".{0,120}", "[0-9]{0,9}", "[a-z]{0,9}", ".{0,40}"], 1..5),
            text in ".{0,300}|x{120}",
        ) {
            let mut table = Table::new(&COLUMNS);
            for cells in rows {
                table.row(cells.map(Cell::from).to_vec(), vec![]);
            }
            for line in table.text(NARROW).split('\n') {
                prop_assert!(line.chars().count() <= PAGE, "{line}");
            }
            for line in note(&Note { label: "why".into(), text, tone: Tone::Plain }, NARROW).lines() {
                prop_assert!(line.chars().count() <= PAGE, "{line}");
            }
        }
    }
}
