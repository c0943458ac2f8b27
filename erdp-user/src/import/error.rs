//! Why a file of Azure's cannot be read, or no configuration can be made of what was read. No message has a value of a file in it that was not
//! cleaned before ([`super::said`]).

use super::read::{DEPTH_MAX, FILE_MAX};

/// Who is at fault: the file, or what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is not text.
    #[error("{file}: is neither UTF-8 nor UTF-16 text; write it with `az ... --output json > FILE`")]
    NoText {
        /// The file.
        file: String,
    },
    /// It is text and not JSON. The JSON reader's own words may quote the file, which may have keys in it.
    #[error(
        "{file}: is no JSON at line {line}, column {column}; write it with `az ... --output json > FILE`"
    )]
    NoJson {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// In that line.
        column: usize,
    },
    /// It is longer than any answer.
    #[error("{file}: is longer than {FILE_MAX} bytes; give one answer in one file")]
    TooLong {
        /// The file.
        file: String,
    },
    /// Its lists and objects are nested deeper than those of any answer.
    #[error("{file}: is nested deeper than {DEPTH_MAX} levels, which no answer of Azure's is")]
    TooDeep {
        /// The file.
        file: String,
    },
    /// It has more entries than Azure has.
    #[error("{file}: has {got} {what}, and at most {most} are read")]
    TooMany {
        /// The file.
        file: String,
        /// What it has too many of.
        what: &'static str,
        /// How many.
        got: usize,
        /// How many are read.
        most: usize,
    },
    /// It is JSON of something else.
    #[error(
        "{file}: is no answer that is understood; give what these print: `az network express-route show`, `list`, `peering list`, \
         `list-route-tables`, `list-route-tables-summary`, `list-arp-tables`, `get-stats`, `az network express-route port show`, and the answers of \
         getCircuitLinkFailoverSingleTestDetails and getResiliencyInformation"
    )]
    Unknown {
        /// The file.
        file: String,
    },
    /// A list without entries is the same whatever it is of.
    #[error(
        "{file}: is an empty list, which does not say of what; leave it out, or give the answer that has entries"
    )]
    Empty {
        /// The file.
        file: String,
    },
    /// A field is not what it is in Microsoft's reference.
    #[error("{file}: {field} of {what} is not {expected}; give the command's answer unchanged")]
    Field {
        /// The file.
        file: String,
        /// Circuit, peering, route...
        what: &'static str,
        /// The field, as Microsoft names it.
        field: String,
        /// What it is in Microsoft's reference.
        expected: &'static str,
    },
    /// A field is not there, and without it the entry says nothing.
    #[error("{file}: {what} has no {field}; give the command's answer unchanged")]
    Missing {
        /// The file.
        file: String,
        /// Circuit, peering, route...
        what: &'static str,
        /// The field, as Microsoft names it.
        field: &'static str,
    },
    /// The router's own answer cannot be read.
    #[error("the router's answer to `{question}` cannot be read; is it of this version?")]
    Router {
        /// The command that asks the same.
        question: &'static str,
    },
    /// Nothing to make a configuration of, or files that contradict each other.
    #[error("{0}")]
    Lacking(String),
}
