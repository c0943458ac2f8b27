//! A [`Config`] for people: every key with its value, defaults filled in; secrets are not shown.

use std::fmt::Display;

use erdp_common::policer::BurstPolicy;
use serde::Serializer;
use serde_json::Value;

use super::{Config, change::burst_name};

/// One value of a configuration and where it stands, as `circuit.contoso.private.hold`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The way to it: circuits by name, attachments by interface and tags, peers by address.
    pub path: String,
    /// The value in the file's own writing.
    pub value: String,
}

/// Every value, in the order of the file.
pub fn values(config: &Config) -> Vec<Shown> {
    let mut list = Vec::new();
    if let Ok(value) = serde_json::to_value(config) {
        flatten("", &value, &mut list);
    }
    list
}

/// The same as text, one value a line.
pub fn text(config: &Config) -> String {
    values(config).iter().map(|shown| format!("{} = {}\n", shown.path, shown.value)).collect()
}

fn flatten(path: &str, value: &Value, list: &mut Vec<Shown>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, list)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                flatten(&below(&name_of(item).unwrap_or_else(|| at.to_string())), item, list);
            }
        }
        Value::Null => list.push(Shown { path: path.to_owned(), value: "(none)".to_owned() }),
        value => list.push(Shown { path: path.to_owned(), value: value.to_string() }),
    }
}

/// What an item of a list is called, so that a path means the same when another one comes before it.
fn name_of(item: &Value) -> Option<String> {
    let text = |key: &str| item.get(key).and_then(Value::as_str);
    let tags = text("tags").filter(|tags| !tags.is_empty()).unwrap_or_default();
    text("interface")
        .map(|interface| format!("{interface}{tags}"))
        .or_else(|| ["name", "address", "prefix"].into_iter().find_map(text).map(str::to_owned))
}

/// By its own Display.
pub(super) fn text_of<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// What decides between an attachment's circuits, in the file's words.
pub(super) fn between_circuits<S: Serializer>(compares: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *compares { "preference" } else { "listed" })
}

/// The file's word for it.
pub(super) fn burst<S: Serializer>(value: &BurstPolicy, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(burst_name(*value))
}

/// Whether there is one, and nothing about it.
pub(super) fn secret<S: Serializer>(value: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(_) => serializer.serialize_str("(hidden)"),
        None => serializer.serialize_none(),
    }
}
