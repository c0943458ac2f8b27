//! What the operator reads when a configuration is refused or doubtful: `file:line: key: reason; remedy`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Why a configuration cannot be used. The operator is at fault, and is told what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("{}: cannot be read: {source}; name another file or correct its permissions", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file says something that cannot be.
    #[error("{0}")]
    Refused(Box<Refusal>),
}

/// One refused or doubtful value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The key, with the names of the tables around it.
    pub key: String,
    /// What is wrong with its value.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// The place in the file, marked, as compilers show it. Keys of sessions are not in it.
    pub excerpt: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { file, line, key, reason, remedy, .. } = self;
        write!(f, "{}:{line}: {key}: {reason}; {remedy}", file.display())
    }
}

/// Something that works and is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub Refusal);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A refusal that knows its bytes in the text and not yet its line.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub at: Range<usize>,
    pub key: String,
    pub reason: String,
    pub remedy: String,
}

impl Fault {
    pub fn new(
        at: Range<usize>,
        key: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Fault {
        Fault { at, key: key.into(), reason: reason.into(), remedy: remedy.into() }
    }

    /// What the TOML reader refused: its message is the reason, and the line's own key is the key.
    pub fn from_toml(error: &toml::de::Error, text: &str) -> Fault {
        let at = error.span().unwrap_or(0..0);
        let line = line_around(text, at.start);
        let key = line.split('=').next().unwrap_or(line).trim().to_owned();
        // The reader's message repeats a number that should have been a text.
        let message = if is_secret(text, &at) { "the value is no text in quotes" } else { error.message() };
        let Some((name, expected)) = unknown_field(message) else {
            return Fault::new(at, key, message, "correct the value or the syntax of this line");
        };
        // `public` is a key only so that it can be refused with its reason.
        let expected = expected.replace(", `public`", "");
        let remedy = format!("remove it or use {expected}");
        Fault::new(at, name, format!("unknown key `{name}`"), remedy)
    }

    fn into_refusal(self, text: &str, file: &Path) -> Refusal {
        let before = text.get(..self.at.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let excerpt = self.excerpt(text, file);
        let Fault { key, reason, remedy, .. } = self;
        Refusal { file: file.to_owned(), line, key, reason, remedy, excerpt }
    }

    fn excerpt(&self, text: &str, file: &Path) -> String {
        let text = without_secrets(text);
        // A table is blamed as a whole: its first line is enough. The caret needs something to stand under.
        let end_of_line =
            text[self.at.start.min(text.len())..].find('\n').map_or(text.len(), |at| self.at.start + at);
        let start = self.at.start.min(text.len());
        let span = start..self.at.end.min(end_of_line).max(start);
        let path = file.display().to_string();
        let snippet = Snippet::source(text.as_str())
            .path(path.as_str())
            .annotation(AnnotationKind::Primary.span(span).label(self.reason.as_str()));
        let report = [
            Level::ERROR.primary_title(self.key.as_str()).element(snippet),
            Group::with_title(Level::HELP.secondary_title(self.remedy.as_str())),
        ];
        Renderer::plain().render(&report)
    }

    pub fn into_error(self, text: &str, file: &Path) -> ConfigError {
        ConfigError::Refused(Box::new(self.into_refusal(text, file)))
    }

    pub fn into_warning(self, text: &str, file: &Path) -> Warning {
        Warning(self.into_refusal(text, file))
    }
}

/// Serde's sentence for an unknown key, taken apart: the key, and what it could have been.
fn unknown_field(message: &str) -> Option<(&str, &str)> {
    let (name, rest) = message.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    Some((name, rest))
}

/// Keys whose values are in no message.
const SECRETS: [&str; 2] = ["md5", "service-key"];

/// The text with the values of such keys starred out, of the same length and lines, so that places stay.
fn without_secrets(text: &str) -> String {
    SECRETS.iter().fold(text.to_owned(), |text, key| starred(&text, key))
}

fn starred(text: &str, key: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(key) {
        let (before, from) = rest.split_at(at);
        let (name, after) = from.split_at(key.len());
        safe.push_str(before);
        safe.push_str(name);
        rest = after;
        let Some((start, len)) = value_behind(after) else { continue };
        safe.push_str(&after[..start]);
        let hidden = after[start..start + len].chars();
        hidden.for_each(|c| safe.push_str(if c == '\n' { "\n" } else { &STARS[..c.len_utf8()] }));
        rest = &after[start + len..];
    }
    safe + rest
}

/// Whether a place of a text is inside a value that is in no message.
fn is_secret(text: &str, at: &Range<usize>) -> bool {
    let shown = without_secrets(text);
    let (written, shown) =
        (text.get(at.clone()).unwrap_or_default(), shown.get(at.clone()).unwrap_or_default());
    written != shown && shown.bytes().all(|c| c == b'*' || c.is_ascii_whitespace())
}

/// A character has at most four bytes.
const STARS: &str = "****";

/// Where the value of a key begins behind the key and its quotes, and its length in bytes; `None`: no value follows.
fn value_behind(after: &str) -> Option<(usize, usize)> {
    let (between, value) = after.split_once('=')?;
    if !between.trim_start_matches(['"', '\'']).trim().is_empty() {
        return None;
    }
    let text = value.trim_start_matches([' ', '\t']);
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| text.starts_with(*quotes));
    let start = after.len() - text.len() + quotes.map_or(0, str::len);
    let inside = &after[start..];
    let len = quotes.map_or_else(|| unquoted_len(inside), |quotes| quoted_len(inside, quotes));
    Some((start, len))
}

/// The length of a text up to its closing quotes. A text of one line that is not closed ends with its line.
fn quoted_len(inside: &str, quotes: &str) -> usize {
    let (is_one_line, has_escapes) = (quotes.len() == 1, quotes.starts_with('"'));
    let mut is_escaped = false;
    for (at, c) in inside.char_indices() {
        let is_end = is_one_line && c == '\n' || !is_escaped && inside[at..].starts_with(quotes);
        if is_end {
            return at;
        }
        is_escaped = has_escapes && c == '\\' && !is_escaped;
    }
    inside.len()
}

/// The length of a value that is no text: up to the end of its line, or of the line that ends its list.
fn unquoted_len(inside: &str) -> usize {
    let is_list = inside.starts_with(['[', '{']);
    let mut len = 0;
    for line in inside.split_inclusive('\n') {
        len += line.trim_end().len();
        if !is_list || line.trim_end().ends_with([']', '}']) {
            return len;
        }
        len += line.len() - line.trim_end().len();
    }
    len
}

fn line_around(text: &str, at: usize) -> &str {
    let at = at.min(text.len());
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_the_line_a_mark_under_it_and_the_remedy_and_no_key_of_a_session() {
        let text =
            "asn = 1\nmd5 = \"hunter2\"\n  bandwidth = \"fast\", md5=\"two\"\n# md5 and md5-file are keys\n";
        let at = text.find("\"fast\"").unwrap();
        let fault = Fault::new(at..at + 6, "circuit.a.bandwidth", "no unit", "write 1G");
        let refusal = fault.into_refusal(text, Path::new("erdp.toml"));
        let lines: Vec<&str> = refusal.excerpt.lines().map(str::trim_end).collect();
        println!("{}", refusal.excerpt);
        assert_eq!(lines[0], "error: circuit.a.bandwidth");
        assert_eq!(lines[1], " --> erdp.toml:3:15");
        assert!(lines.contains(&"3 |   bandwidth = \"fast\", md5=\"***\""), "{lines:?}");
        assert!(lines.contains(&"  |               ^^^^^^ no unit"), "{lines:?}");
        assert!(refusal.excerpt.contains("help: write 1G"), "{lines:?}");
        assert!(!refusal.excerpt.contains("hunter2") && !refusal.excerpt.contains("two"));
    }

    #[test]
    fn a_secret_of_a_wrong_type_is_in_no_part_of_its_refusal() {
        for value in ["4711", "[\"4711\"]", "{ key = 4711 }", "47.11", "\"a\\\"4711"] {
            let text = format!(
                "asn = 1\n[[circuit]]\nname = \"a\"\nbandwidth = \"1G\"\n[circuit.private]\nmd5 = {value}\n"
            );
            let error = super::super::Config::parse(&text, Path::new("erdp.toml")).unwrap_err();
            let ConfigError::Refused(refusal) = &error else { panic!("{error}") };
            let said = format!("{error} {}", refusal.excerpt);
            assert!(refusal.line == 6 && !said.contains("47") && !said.contains("11"), "{value}: {said}");
        }
    }

    #[test]
    fn a_secret_is_starred_out_however_it_is_quoted_and_everything_keeps_its_place() {
        for (text, safe) in [
            ("md5 = \"a b\" # md5", "md5 = \"***\" # md5"),
            ("md5 = 'a'", "md5 = '*'"),
            ("\"md5\" = 'a'", "\"md5\" = '*'"),
            ("md5 = \"\"\"a\nb\"\"\"", "md5 = \"\"\"*\n*\"\"\""),
            ("md5 = \"open\nnext = \"x\"", "md5 = \"****\nnext = \"x\""),
            ("md5-file = \"name\"", "md5-file = \"name\""),
            ("service-key = \"0f8f\"\nport = \"p\"", "service-key = \"****\"\nport = \"p\""),
            ("md5 = \"é\"", "md5 = \"**\""),
            (r#"md5 = "a\"b" # c"#, "md5 = \"****\" # c"),
            (r#"md5 = "a\\" # c"#, "md5 = \"***\" # c"),
            (r#"md5 = """a\"""b""" # c"#, "md5 = \"\"\"******\"\"\" # c"),
            (r"md5 = 'a\' # c", "md5 = '**' # c"),
            ("md5 = 12\nvlan = 7", "md5 = **\nvlan = 7"),
            ("md5 = [\"x\"]\nvlan = 7", "md5 = *****\nvlan = 7"),
            ("md5 = [\n  \"x\",\n]\nvlan = 7", "md5 = *\n******\n*\nvlan = 7"),
            ("peers = [{ md5 = 12, asn = 1 }]\nvlan = 7", "peers = [{ md5 = **************\nvlan = 7"),
            ("md5 =\nvlan = 7", "md5 =\nvlan = 7"),
        ] {
            assert_eq!(without_secrets(text), safe, "{text}");
        }
    }
}
