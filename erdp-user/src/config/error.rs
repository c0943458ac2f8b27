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
        let message = error.message();
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

/// The text with the values of `md5` keys starred out, of the same length, so that places stay.
fn without_secrets(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("md5") {
        let (before, from) = rest.split_at(at);
        safe.push_str(before);
        let is_value =
            |(key, value): (&str, &str)| key.trim_end() == "md5" && value.trim_start().starts_with('"');
        let opening = from.split_once('=').filter(|pair| is_value(*pair)).and_then(|_| from.find('"'));
        let closing = opening
            .and_then(|opening| from.get(opening + 1..)?.find(['"', '\n']).map(|len| (opening + 1, len)));
        match closing {
            Some((start, len)) => {
                safe.push_str(&from[..start]);
                safe.extend(std::iter::repeat_n('*', len));
                rest = &from[start + len..];
            }
            None => {
                safe.push_str(&from[..3]);
                rest = &from[3..];
            }
        }
    }
    safe + rest
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
}
