//! Values of the daemon's answers as text.

use serde_json::Value;

use super::table::Cell;

/// A value in words.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The same as a cell.
pub fn cell(value: &Value) -> Cell {
    text(value).into()
}

/// A whole number; 0 where there is none.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// The rows of a list.
pub fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// An address and a port.
pub fn endpoint(address: &Value, port: &Value) -> String {
    match (text(address), port) {
        (address, Value::Null) => address,
        (address, port) if address.contains(':') => format!("[{address}]:{port}"),
        (address, port) => format!("{address}:{port}"),
    }
}

/// A time stamp to the second, without its year; whole where the line may be long.
pub fn moment(value: &Value, wide: bool) -> String {
    let whole = text(value);
    match (whole.get(5..10), whole.get(11..19)) {
        (Some(day), Some(time)) if !wide => format!("{day} {time}"),
        _ => whole,
    }
}

/// Where a sampled frame came in.
pub fn came_in_on(row: &Value) -> &Value {
    if row["attachment"].is_null() { &row["interface"] } else { &row["attachment"] }
}

/// Who has sent a sampled frame.
pub fn sent_by(row: &Value) -> &Value {
    if row["source"].is_null() { &row["source_mac"] } else { &row["source"] }
}

/// What a row is called: the names in it that an operator may mean it by, the first being its own.
pub fn names(row: &Value) -> impl Iterator<Item = &str> {
    ["link", "domain", "circuit", "peer", "interface", "attachment"]
        .into_iter()
        .filter_map(|key| row[key].as_str())
}

/// Whether a row is one of those that are meant: its name, or the beginning of it. Words may stand behind a blank or a slash.
pub fn is_called(row: &Value, name: &str) -> bool {
    let plain = |name: &str| name.replace('/', " ");
    let wanted = plain(name);
    names(row).map(plain).any(|it| it == wanted || it.starts_with(&format!("{wanted} ")))
}
