//! README's commands and what they print: tests run what stands on the page and compare the output with the page.
//!
//! A block ```` ```console ```` has commands (`$ command`), each followed by its output. Three things differ from run to run and are not compared:
//! numbers and times (but AS numbers, addresses and names are), runs of spaces, and what the page leaves out. A line `...` stands for any lines, and a line that
//! ends with ` ...` for any end of that line.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

/// A command of README and the output that stands below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The command line.
    pub command: String,
    /// Its output on the page.
    pub output: Vec<String>,
}

/// Commands on the page that the test of the installation does not run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo xtask package", "`cargo xtask test` makes the package by the same code before the test"),
    ("cargo xtask run", "tests/tests/lab_end_to_end.rs runs it"),
];

/// All examples of README, in its order.
///
/// # Errors
/// When README cannot be read or an example is not one.
pub fn examples() -> Result<Vec<Example>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("README.md");
    parse(&fs::read_to_string(path).context("README.md cannot be read")?)
}

/// The installation: every example that a test of the package has to run.
///
/// # Errors
/// As [`examples`].
pub fn installation() -> Result<Vec<Example>> {
    let mut examples = examples()?;
    for (command, why) in NOT_RUN {
        let before = examples.len();
        examples.retain(|example| example.command != *command);
        ensure!(examples.len() + 1 == before, "README has not exactly one example `{command}` ({why})");
    }
    Ok(examples)
}

/// The example of one command.
///
/// # Errors
/// When README has none.
pub fn example(command: &str) -> Result<Example> {
    let found = examples()?.into_iter().find(|example| example.command == command);
    found.with_context(|| format!("README has no example `{command}`"))
}

fn parse(page: &str) -> Result<Vec<Example>> {
    let mut examples: Vec<Example> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").context("a block of README does not end")?;
        let mut is_first = true;
        for line in block.lines() {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => {
                    examples.push(Example { command: command.to_owned(), output: Vec::new() })
                }
                (None, Some(example)) if !is_first => example.output.push(line.to_owned()),
                (None, _) => bail!("a block of README does not begin with a command: {line}"),
            }
            is_first = false;
        }
    }
    ensure!(!examples.is_empty(), "README has no examples");
    Ok(examples)
}

impl Example {
    /// Compares what a run has printed with the page.
    ///
    /// # Errors
    /// The first line of the page that was not printed, or the first printed line that is not on the page.
    pub fn compare(&self, printed: &str) -> Result<()> {
        let shown: Vec<String> = self.output.iter().map(|line| masked(line)).collect();
        let lines: Vec<String> = printed.lines().map(masked).filter(|line| !line.is_empty()).collect();
        let wanted: Vec<&str> = shown.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
        let mut rest = lines.as_slice();
        let mut may_skip = false;
        for line in wanted {
            if line == "..." {
                may_skip = true;
                continue;
            }
            let reach = if may_skip { rest.len() } else { rest.len().min(1) };
            let found = rest[..reach].iter().position(|it| is_shown_as(it, line));
            let Some(at) = found else {
                bail!("`{}` should print `{line}` and prints:\n{printed}", self.command);
            };
            rest = &rest[at + 1..];
            may_skip = false;
        }
        if let (false, Some(more)) = (may_skip, rest.first()) {
            bail!("`{}` prints `{more}`, which is not in README", self.command);
        }
        Ok(())
    }
}

fn is_shown_as(printed: &str, shown: &str) -> bool {
    printed == shown || shown.strip_suffix(" ...").is_some_and(|begin| printed.starts_with(begin))
}

/// A line with `#` for each number and one space for each run of them. Addresses, names with digits and AS numbers stay as they are.
fn masked(line: &str) -> String {
    let mut words = Vec::new();
    let mut after_as = false;
    for word in line.split_whitespace() {
        words.push(if after_as { word.to_owned() } else { masked_word(word) });
        after_as = word == "AS";
    }
    words.join(" ").replace("[ ", "[")
}

fn masked_word(word: &str) -> String {
    let is_punctuation = |c: char| "()[],;:=+.%".contains(c);
    let begin = word.find(|c: char| !is_punctuation(c)).unwrap_or(word.len());
    let core = word[begin..].trim_end_matches(is_punctuation);
    let after = &word[begin + core.len()..];
    if is_number(core) { format!("{}#{after}", &word[..begin]) } else { word.to_owned() }
}

/// `12`, `3.5` or `12,345`.
fn is_number(word: &str) -> bool {
    let plain = word.replace(',', "");
    plain.starts_with(|c: char| c.is_ascii_digit()) && plain.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "text\n```console\n$ erdp show links\nLINK  UP  BYTES\neth1  true  12\n...\nsum 3.5 ms, 12 of 40, AS 65010\n\
                        $ erdp check\n```\n```sh\nls\n```\n```console\n$ third\nSetting up ...\n```\n";

    #[test]
    fn a_page_has_commands_with_their_output() {
        let examples = parse(PAGE).expect("a page");
        let commands: Vec<_> = examples.iter().map(|it| (it.command.as_str(), it.output.len())).collect();
        assert_eq!(commands, [("erdp show links", 4), ("erdp check", 0), ("third", 1)]);
        assert!(parse("```console\nno command\n```").is_err() && parse("no block").is_err());
    }

    #[test]
    fn numbers_and_what_is_left_out_may_differ_and_nothing_else() {
        let examples = parse(PAGE).expect("a page");
        let rows = [
            (
                0,
                "LINK UP BYTES\neth1  true  7\neth2 true 8\nsum 1,200 ms, 1 of 2, AS 65010\n",
                true,
                "other numbers, more lines",
            ),
            (0, "LINK UP BYTES\neth1  true  7\nsum 1 ms, 1 of 2, AS 65010\n", true, "nothing was left out"),
            (0, "LINK UP BYTES\neth1 false 7\nsum 1 ms, 1 of 2, AS 65010\n", false, "another word"),
            (0, "LINK UP BYTES\neth2 true 7\nsum 1 ms, 1 of 2, AS 65010\n", false, "another name"),
            (0, "LINK UP BYTES\neth1 true 7\nsum 1 ms, 1 of 2, AS 65011\n", false, "another AS"),
            (0, "LINK UP BYTES\neth1 true 7\n", false, "a line less"),
            (
                0,
                "LINK UP BYTES\neth1 true 7\nsum 1 ms, 1 of 2, AS 65010\nmore\n",
                false,
                "a line more at the end",
            ),
            (
                0,
                "new\nLINK UP BYTES\neth1 true 7\nsum 1 ms, 1 of 2, AS 65010\n",
                false,
                "a line more at the begin",
            ),
            (1, "", true, "no output"),
            (1, "warning\n", false, "output where the page has none"),
            (2, "Setting up erdp (0.1.0) ...\n", true, "the end of a line is left out"),
            (2, "Removing erdp ...\n", false, "another beginning"),
        ];
        for (which, printed, passes, what) in rows {
            assert_eq!(examples[which].compare(printed).is_ok(), passes, "{what}");
        }
    }

    #[test]
    fn addresses_and_names_are_no_numbers() {
        for (line, expected) in [
            (
                "[  12.3 s] 198.18.0.2 fd00::2 msee1 10 33% (0.5 ms)",
                "[# s] 198.18.0.2 fd00::2 msee1 # #% (# ms)",
            ),
            ("198.18.0.0/29 12: 7; =4", "198.18.0.0/29 #: #; =#"),
        ] {
            assert_eq!(masked(line), expected);
        }
    }

    #[test]
    fn readme_has_the_lab_and_the_installation() {
        let commands: Vec<String> =
            installation().expect("README").into_iter().map(|example| example.command).collect();
        assert!(commands.len() >= 6 && commands[0].starts_with("dpkg -i"), "{commands:?}");
        assert!(example("cargo xtask run").expect("README").output.len() > 10);
    }
}
