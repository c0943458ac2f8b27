//! Target "azure-import": any files as Azure's answers, divided by octets of zero, which no JSON has. Each is refused by its name, or read; what is made of
//! them is a configuration that is accepted, and nothing that is printed has a GUID, which a service key is, or a character that a terminal obeys.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use erdp::{
    config::Config,
    import::{ImportError, Options, Ours, Seen, View, compare, propose, read},
};

use super::must;

/// Longer ones only take longer.
const BYTES_MOST: usize = 64 << 10;
/// The lengths of a GUID's groups of hexadecimal digits.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// The files.
pub fn run(bytes: &[u8]) {
    must(check(&bytes[..bytes.len().min(BYTES_MOST)]));
}

fn check(bytes: &[u8]) -> Result<()> {
    let mut seen = Seen::default();
    for (number, file) in bytes.split(|octet| *octet == 0).enumerate().take(32) {
        let name = format!("file{number}.json");
        if let Err(error) = read(&name, file, None, &mut seen) {
            let said = printable(&error)?;
            ensure!(said.starts_with(&name), "no file in {said:?}");
        }
    }
    let view = match View::of(seen) {
        Ok(view) => view,
        Err(error) => return printable(&error).map(drop),
    };
    match propose(&view, &Options::default()) {
        Ok(proposal) => {
            fit_to_print(&proposal.toml)?;
            let parsed = Config::parse(&proposal.toml, Path::new("proposal.toml"));
            let (config, _) = parsed.with_context(|| proposal.toml.clone())?;
            let report = compare(&view, &Ours::of(&config));
            fit_to_print(&report.text())?;
            fit_to_print(&report.json())?;
        }
        Err(error) => drop(printable(&error)?),
    }
    Ok(())
}

fn printable(error: &ImportError) -> Result<String> {
    let said = error.to_string();
    fit_to_print(&said)?;
    Ok(said)
}

fn fit_to_print(text: &str) -> Result<()> {
    ensure!(!text.chars().any(|c| c.is_control() && c != '\n'), "a control character in {text:?}");
    let bytes = text.as_bytes();
    let found = (0..bytes.len()).find(|at| is_guid(&bytes[*at..]));
    ensure!(found.is_none(), "a key at {found:?} in {text:?}");
    Ok(())
}

fn is_guid(bytes: &[u8]) -> bool {
    let Some(head) = bytes.get(..36) else { return false };
    let groups: Vec<&[u8]> = head.split(|octet| *octet == b'-').collect();
    let lengths = groups.iter().map(|group| group.len());
    lengths.eq(GROUPS) && groups.iter().all(|group| group.iter().all(u8::is_ascii_hexdigit))
}

/// The samples, each and all.
pub fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../erdp-user/src/import/samples");
    let list = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|it| it == "json")).collect();
        files.sort();
        files.iter().filter_map(|path| std::fs::read(path).ok()).collect::<Vec<_>>()
    };
    let (good, faulty) = (list(root.clone()), list(root.join("faulty")));
    let all = [good.join(&0), faulty.join(&0)];
    good.into_iter().chain(faulty).chain(all).collect()
}
