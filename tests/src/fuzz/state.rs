//! Target "state": the file of what outlives the daemon. A start believes all of it or nothing, says why and which file it means, and what is
//! believed is the same when it is written and read again. What the file says is read here once more as plain JSON.

use anyhow::{Context as _, Result, ensure};
use erdp::{
    control::File,
    state::{
        Kept, resolve,
        store::{read, text},
    },
};
use serde_json::Value;

use super::must;

/// Longest wait in seconds that a note of a peer's absence can ask for.
const AWAY_MAX_S: u64 = 24 * 3600;
/// Longest reason for a refusal in bytes.
const REASON_MAX: usize = 1_000;

/// The file.
pub fn run(bytes: &[u8]) {
    must(check(bytes));
}

fn check(bytes: &[u8]) -> Result<()> {
    let kept = match read(bytes) {
        Ok(kept) => kept,
        Err(why) => {
            ensure!(why.starts_with("state.json ") && why.len() < REASON_MAX, "{why:?}");
            ensure!(!why.chars().any(char::is_control), "{why:?}");
            return Ok(());
        }
    };
    is_whole(&kept, &serde_json::from_slice(bytes).context("believed, and no JSON")?)?;
    let written = text(&kept);
    let again = read(&written).map_err(anyhow::Error::msg).with_context(|| format!("{kept:?}"))?;
    ensure!(again == kept, "{kept:?} has become {again:?}");
    starts(&kept)
}

/// Everything that the file has is there.
fn is_whole(kept: &Kept, file: &Value) -> Result<()> {
    ensure!(file["version"] == 1, "believed with another version: {file}");
    let length = |value: &Value| value.as_array().map_or(0, Vec::len);
    ensure!(kept.holds.len() == length(&file["holds"]), "{kept:?} of {file}");
    ensure!(kept.away.len() == length(&file["away"]), "{kept:?} of {file}");
    for (hold, said) in kept.holds.iter().zip(file["holds"].as_array().into_iter().flatten()) {
        ensure!(hold.text == text_of(said, "text", 1) && said_number(said, "since", 2) == Some(hold.since));
    }
    for (away, said) in kept.away.iter().zip(file["away"].as_array().into_iter().flatten()) {
        ensure!(said_number(said, "until", 2) == Some(away.until), "{away:?} of {said}");
        ensure!(said_number(said, "count", 1) == Some(away.count.into()), "{away:?} of {said}");
        ensure!(away.left(0).as_secs() <= AWAY_MAX_S && away.left(u64::MAX).is_zero(), "{away:?}");
    }
    ensure!(kept.configured.is_some() != file["configured"].is_null(), "{kept:?} of {file}");
    let Some(configured) = &kept.configured else { return Ok(()) };
    let is_applied = !field(&file["configured"], "applied", 1).is_null();
    ensure!(configured.applied.is_some() == is_applied, "{configured:?} of {file}");
    let settings = length(field(&file["configured"], "settings", 2));
    ensure!(configured.settings.len() == settings, "{configured:?} of {file}");
    Ok(())
}

/// A record's field, which may be written by its name or by its place.
fn field<'a>(record: &'a Value, name: &str, place: usize) -> &'a Value {
    if record.is_array() { &record[place] } else { &record[name] }
}

fn text_of<'a>(record: &'a Value, name: &str, place: usize) -> &'a str {
    field(record, name, place).as_str().unwrap_or_default()
}

fn said_number(record: &Value, name: &str, place: usize) -> Option<u64> {
    field(record, name, place).as_u64()
}

/// A start runs what was applied if the daemon's file is what it was then, and else the daemon's file.
fn starts(kept: &Kept) -> Result<()> {
    let Some(configured) = &kept.configured else { return Ok(()) };
    let edited = File { path: configured.file.path.clone(), text: format!("{}\n", configured.file.text) };
    for file in [&configured.file, &edited] {
        let resolved = resolve(Some(configured), file);
        let is_same = *file == configured.file;
        let expected = configured.applied.as_ref().filter(|_| is_same).unwrap_or(file);
        ensure!(resolved.run == *expected, "{resolved:?} of {configured:?}");
        ensure!(resolved.settings.is_empty() || is_same, "{resolved:?} of {configured:?}");
        ensure!(!resolved.notes.iter().any(|note| note.chars().any(char::is_control)), "{resolved:?}");
    }
    Ok(())
}

/// A file with something of everything, one with as little as may be, and some that are refused.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = r#"{"version":1,"release":"0.1.0","process":7,
"holds":[{"ends":["198.18.0.1","198.18.0.2"],"text":"rack 7 moves","since":7}],
"away":[{"ends":["fd00::1","fd00::2"],"count":2,"until":9}],
"configured":{"file":{"path":"/etc/erdp/erdp.toml","text":"one"},"applied":{"path":"/tmp/other.toml","text":"two"},
"settings":[["x",{"bandwidth":"2G","burst":null,"credit-ms":5}]],"unconfirmed":"/tmp/third.toml"}}"#;
    let least = r#"{"version":1,"release":"","process":1}"#;
    let texts = [
        whole.to_owned(),
        least.to_owned(),
        whole.replace("\"version\":1", "\"version\":2"),
        whole.replace("\"since\":7", "\"since\":-7"),
        whole.replace("\"count\":2", "\"count\":4294967296"),
        whole.replace("\"credit-ms\":5", "\"credit-ms\":-9223372036854775808"),
        whole.replace("198.18.0.1", "198.18.0.256\\n"),
        whole.replace("\"two\"", "\"two\\n\\u001b[2J\",\"later\":[{}]"),
        whole.replace("\"holds\":[", "\"holds\":[],\"holds\":["),
        whole[..whole.len() / 2].to_owned(),
    ];
    texts.map(String::into_bytes).to_vec()
}
