//! A page of the documentation that a test executes.
//!
//! The page is the script:
//!
//! * A paragraph that ends in "`NAME`:" makes the code block after it the content of a file.
//! * A block of the kind `console` has commands after `$ `, and the output of each. `...` in the
//!   output stands for any text. A command must succeed, unless the next one is `echo $?`.
//! * Blocks of other kinds, such as `sh` for an installation, are not executed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command prints its exit code between two of these bytes when it has ended.
const MARK: char = '\u{1}';

/// A step of a page.
#[derive(Debug, PartialEq)]
enum Step {
    /// Writes a file.
    File { name: String, content: String },
    /// Runs the commands of a block.
    Console(Vec<ShownCommand>),
}

/// A command of a page, and the output that the page shows.
#[derive(Debug, Default, PartialEq)]
struct ShownCommand {
    line: String,
    output: String,
}

/// Executes a page in a directory, with additional environment variables.
#[track_caller]
pub(crate) fn execute(page: &str, dir: &Path, variables: &[(&str, &str)]) {
    let steps = parse(page);
    assert!(steps.iter().any(|step| matches!(step, Step::Console(_))), "the page has no command");
    for step in steps {
        match step {
            Step::File { name, content } => {
                let path = dir.join(name);
                fs::write(&path, &content).unwrap();
                let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            Step::Console(commands) => run_block(&commands, dir, variables),
        }
    }
}

fn parse(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut paragraph = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            if !line.is_empty() {
                paragraph = line;
            }
            continue;
        };
        let block: String =
            lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        if kind == "console" {
            steps.push(Step::Console(parse_console(&block)));
        } else if let Some(name) = file_name(paragraph) {
            steps.push(Step::File { name: name.to_owned(), content: block });
        }
        paragraph = "";
    }
    steps
}

/// Returns the name at the end of a paragraph of the form "..., `NAME`:".
fn file_name(paragraph: &str) -> Option<&str> {
    paragraph.strip_suffix("`:")?.rsplit('`').next()
}

fn parse_console(block: &str) -> Vec<ShownCommand> {
    let mut commands: Vec<ShownCommand> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(ShownCommand { line: command.to_owned(), output: String::new() });
            continue;
        }
        let command = commands.last_mut().expect("a block begins with a command");
        // A backslash continues the command.
        let is_continued = command.output.is_empty() && command.line.ends_with('\\');
        let text = if is_continued { &mut command.line } else { &mut command.output };
        *text += &if is_continued { format!("\n{line}") } else { format!("{line}\n") };
    }
    commands
}

/// Runs the commands in one shell, and compares their output.
#[track_caller]
fn run_block(commands: &[ShownCommand], dir: &Path, variables: &[(&str, &str)]) {
    let script: String = commands
        .iter()
        .map(|command| {
            format!("{}\nstatus=$?; printf '\\001%d\\001' $status; (exit $status)\n", command.line)
        })
        .collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1\n{script}exit 0")]).current_dir(dir).stdin(Stdio::null());
    shell.env("TZ", "UTC").env("NO_COLOR", "1").envs(variables.iter().copied());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let out = String::from_utf8(output.stdout).unwrap();
    let mut rest = out.split(MARK);
    for (index, command) in commands.iter().enumerate() {
        let (output, status) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
        let shows_status = commands.get(index + 1).is_some_and(|next| next.line == "echo $?");
        assert!(status == "0" || shows_status, "`{}` failed with {status}:\n{out}", command.line);
        assert!(
            matches(&command.output, output),
            "`{}` printed:\n{output}\nand the page shows:\n{}",
            command.line,
            command.output
        );
    }
}

/// Returns whether a text matches a pattern in which `...` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split("...");
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for piece in pieces {
        let Some(before) = last.replace(piece) else { continue };
        match rest.split_once(before) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
Text.

The program, `a.py`:

```python
x
```

```sh
pip install it
```

```console
$ one \\
  two
first
$ echo $?
1
```
";

    #[test]
    fn a_page_has_files_and_commands() {
        let command =
            |line: &str, output: &str| ShownCommand { line: line.to_owned(), output: output.to_owned() };
        let expected = [
            Step::File { name: "a.py".to_owned(), content: "x\n".to_owned() },
            Step::Console(vec![command("one \\\n  two", "first\n"), command("echo $?", "1\n")]),
        ];
        assert_eq!(parse(PAGE), expected);
    }

    #[test]
    fn three_dots_stand_for_any_text() {
        for (pattern, text) in
            [("a\n", "a\n"), ("...", ""), ("a...d", "abcd"), ("...b...", "abc"), ("a...a...a", "aaa")]
        {
            assert!(matches(pattern, text), "{pattern:?} {text:?}");
        }
        for (pattern, text) in
            [("", "a"), ("a...", "ba"), ("...c...b", "abc"), ("a...b", "abc"), ("a...a", "a")]
        {
            assert!(!matches(pattern, text), "{pattern:?} {text:?}");
        }
    }
}
