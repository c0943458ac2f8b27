//! What an operator has applied and the daemon's file does not have. A process that takes over must not undo in silence what runs: where
//! nothing is kept ([`super::kept`]), or the file has changed since, it would. So the one that is asked compares, and refuses with what would
//! be lost and what to do.
//!
//! Where everything that runs was in the file when it was applied, another file is what the operator wants: that is how a restart brings
//! a changed one into force. What `erdp set` has changed is handed over and no difference.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Controller;
use crate::{
    config::{CircuitChange, Config, Plan},
    control::File,
};

/// Differences that are named; of more only the number is told.
const NAMED_MAX: usize = 5;

/// What `erdp set` has changed since the configuration was carried out.
pub(super) type Settings = Vec<(String, CircuitChange)>;

/// Where the running configuration is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// The file that the daemon was started with.
    pub file: PathBuf,
    /// The configuration that runs, as it was written.
    pub running: File,
    /// What was applied that this file has not.
    applied: Option<PathBuf>,
}

impl Source {
    /// Where a daemon's configuration is written that was started with this file.
    pub fn of(file: &Path) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    /// The daemon's file as it is now.
    pub fn read(&self) -> io::Result<File> {
        let path = fs::canonicalize(&self.file)?;
        Ok(File { text: fs::read_to_string(&path)?, path })
    }
}

impl Controller {
    /// Another configuration runs, from this file or by this word.
    pub(super) fn note_source(&mut self, from: &Path) {
        let file = self.history.source.read();
        let is_there =
            file.is_ok_and(|file| would_run(&file, &self.settings).as_ref() == Some(&self.core.config));
        self.history.source.applied = (!is_there).then(|| from.to_owned());
    }

    /// What runs and the daemon's file has not.
    pub(super) fn applied(&self) -> Option<&File> {
        self.history.source.applied.is_some().then_some(&self.history.source.running)
    }

    /// What of the running configuration a process with this file would not have, and what to do; `None`: nothing that has no other place.
    pub(super) fn what_would_be_lost(&self, file: &File) -> Option<String> {
        let applied = self.history.source.applied.as_ref()?;
        lost(&self.core.config, &self.settings, applied, file)
    }
}

fn lost(running: &Config, settings: &Settings, applied: &Path, file: &File) -> Option<String> {
    let plan = Plan::between(running, &would_run(file, settings)?);
    if plan.is_empty() {
        return None;
    }
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not there".into());
    let named = plan
        .differences
        .iter()
        .map(|it| format!("{} is {} here and {} in the file", it.path, value(&it.from), value(&it.to)));
    let mut named: Vec<String> = named.take(NAMED_MAX).collect();
    match plan.differences.len().saturating_sub(NAMED_MAX) {
        0 if named.is_empty() => named.push("a key that is not shown differs".into()),
        0 => {}
        more => named.push(format!("and {more} more")),
    }
    let (applied, file) = (applied.display(), file.path.display());
    // Less bandwidth is not applied without it (A4).
    let force = if plan.decreases.is_empty() { "" } else { " --force" };
    Some(format!(
        "what was applied ({applied}) is not in {file}, which the process after this one reads: {}; write it into {file}, or give it up \
         by `erdp config apply {file}{force}`, and try again",
        named.join(", ")
    ))
}

/// What a process with this file would run; `None`: it would not.
fn would_run(file: &File, settings: &Settings) -> Option<Config> {
    let (mut config, _) = Config::parse(&file.text, &file.path).ok()?;
    for (name, change) in settings {
        if let Ok(planned) = change.plan(&config, name) {
            config.circuits[planned.index] = planned.circuit;
        }
    }
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "asn = 65010\n[[circuit]]\nname = \"x\"\nbandwidth = \"1G\"\nprimary = { local = \"up0\" }\n\
        secondary = { local = \"up1\" }\n[circuit.private]\nipv4 = \"198.18.0.0/29\"\nmd5 = \"one key of both\"\n\
        [[attachment]]\ninterface = \"ce0\"\npeerings = [\"x/private\"]\nipv4 = \"198.18.10.1/30\"\n";

    fn file(text: String) -> File {
        File { path: "/etc/erdp/erdp.toml".into(), text }
    }

    fn config(text: String) -> Config {
        Config::parse(&text, Path::new("running.toml")).expect("a configuration").0
    }

    #[test]
    fn what_the_file_has_not_is_named_with_both_values_and_what_to_do() {
        let two = TEXT.replace("\"1G\"", "\"2G\"");
        let set = vec![(
            "x".to_owned(),
            CircuitChange { bandwidth: Some("2G".into()), ..CircuitChange::default() },
        )];
        // What runs, what was set beside it, the file, and the words of the refusal.
        let rows: [(String, Settings, String, &[&str]); 5] = [
            (two.clone(), vec![], two.clone(), &[]),
            (two.clone(), set, TEXT.into(), &[]),
            (
                two,
                vec![],
                TEXT.into(),
                &[
                    "(/tmp/new.toml)",
                    "bandwidth is \"2G\" here and \"1G\"",
                    "`erdp config apply /etc/erdp/erdp.toml --force`",
                ],
            ),
            (TEXT.into(), vec![], TEXT.replace("one key", "a key"), &["a key that is not shown differs"]),
            (TEXT.into(), vec![], TEXT.replace("up0", "up2"), &["up0", "up2"]),
        ];
        for (running, settings, text, words) in rows {
            let mut running = config(running);
            for (name, change) in &settings {
                let planned = change.plan(&running, name).expect("a change");
                running.circuits[planned.index] = planned.circuit;
            }
            let said = lost(&running, &settings, Path::new("/tmp/new.toml"), &file(text.clone()));
            assert_eq!(said.is_none(), words.is_empty(), "{text}: {said:?}");
            let said = said.unwrap_or_default();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }

    #[test]
    fn a_file_that_would_not_run_loses_nothing() {
        let running = config(TEXT.into());
        assert_eq!(lost(&running, &vec![], Path::new("a"), &file("asn = 0".into())), None);
    }
}
