//! What the operator reads when a configuration is refused or doubtful: `file:line: key: reason; remedy`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

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
    Refused(Refusal),
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
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { file, line, key, reason, remedy } = self;
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
        Refusal { file: file.to_owned(), line, key: self.key, reason: self.reason, remedy: self.remedy }
    }

    pub fn into_error(self, text: &str, file: &Path) -> ConfigError {
        ConfigError::Refused(self.into_refusal(text, file))
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

fn line_around(text: &str, at: usize) -> &str {
    let at = at.min(text.len());
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("")
}
