//! `erdp generate FOLDER`: man pages and shell completions out of the command line's own description, for whoever packages erdp.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;

/// Writes `man1/*.1` and the completions of three shells into a folder.
pub fn generate(command: Command, folder: &Path) -> Result<()> {
    let man = folder.join("man1");
    fs::create_dir_all(&man).with_context(|| format!("cannot make {}", man.display()))?;
    let mut command = without_help(command);
    command.build();
    clap_mangen::generate_to(command.clone(), &man).context("cannot write the man pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = clap_complete::generate_to(shell, &mut command, "erdp", folder);
        path.with_context(|| format!("cannot write the completions of {shell}"))?;
    }
    Ok(())
}

/// `help` is a verb of every verb; a page for each would be many without a word of their own.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}
