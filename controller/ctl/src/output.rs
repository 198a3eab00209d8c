//! What a subcommand answers, and how it is printed.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people
    #[default]
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// What a subcommand found out.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For people; may hold [`Paint`] marks.
    pub(crate) text: String,
    /// For programs; `None` if the text serves both.
    pub(crate) data: Option<Value>,
    /// The answer is bad news that a script must notice: exit status 1.
    pub(crate) failed: bool,
}

impl Answer {
    /// An answer with a form for people and one for programs.
    pub(crate) fn new(text: String, data: Value) -> Self {
        Self {
            text,
            data: Some(data),
            failed: false,
        }
    }

    /// An answer that has one form only.
    pub(crate) fn plain(text: String) -> Self {
        Self {
            text,
            data: None,
            failed: false,
        }
    }

    /// Prints it; the exit status to end with.
    pub(crate) fn print(&self, format: Format) -> anyhow::Result<ExitCode> {
        let text = self.render(format, colours())?;
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            // The reader (`head`, a pager) has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error).context("cannot write the answer"),
        }
        Ok(if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    /// The answer in a format, with or without colours.
    pub(crate) fn render(&self, format: Format, colours: Colours) -> anyhow::Result<String> {
        let Some(data) = &self.data else {
            return Ok(paint(&self.text, colours));
        };
        match format {
            Format::Table => Ok(paint(&self.text, colours)),
            Format::Json => {
                Ok(serde_json::to_string_pretty(data).context("cannot write JSON")? + "\n")
            }
            Format::Yaml => serde_saphyr::to_string(data).context("cannot write YAML"),
        }
    }
}

/// Prints an error to stderr, cause after cause; the exit status to end with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Nothing can be done if stderr is closed, and the exit status says it anyway.
    let _ = writeln!(io::stderr(), "margayctl: {error:#}");
    ExitCode::from(if error.is::<Misuse>() { 2 } else { 1 })
}

/// Prints a remark to stderr, which is no part of the answer.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(io::stderr(), "margayctl: {text}");
}

/// The command was asked for something that does not exist or cannot be: exit status 2.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Whether the answer may hold escape sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    /// For a terminal.
    On,
    /// For a file or a pipe.
    Off,
}

/// Colours are for terminals, and for those who did not refuse them (<https://no-color.org>).
pub(crate) fn colours() -> Colours {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !refused {
        Colours::On
    } else {
        Colours::Off
    }
}

/// What a piece of text means; becomes a colour on a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Worth a look.
    Warn,
    /// A heading.
    Head,
}

/// Ends what a [`Paint`] began.
const END: char = '\u{2064}';

impl Paint {
    /// Marks text by invisible characters of no width, so that columns stay aligned; [`paint`]
    /// makes colours of them, or nothing.
    pub(crate) fn on(self, text: impl Display) -> String {
        format!("{}{text}{END}", self.mark())
    }

    fn mark(self) -> char {
        match self {
            Self::Good => '\u{2061}',
            Self::Bad => '\u{2062}',
            Self::Warn => '\u{2063}',
            Self::Head => '\u{2060}',
        }
    }
}

fn paint(text: &str, colours: Colours) -> String {
    let mut painted = String::with_capacity(text.len());
    for letter in text.chars() {
        let escape = match letter {
            '\u{2060}' => "\x1b[1m",
            '\u{2061}' => "\x1b[32m",
            '\u{2062}' => "\x1b[31m",
            '\u{2063}' => "\x1b[33m",
            END => "\x1b[0m",
            _ => {
                painted.push(letter);
                continue;
            }
        };
        if colours == Colours::On {
            painted.push_str(escape);
        }
    }
    painted
}

/// A table without lines: a heading in capitals, columns as wide as their widest cell. Nothing if there
/// are no rows.
pub(crate) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(heading.map(|title| Paint::Head.on(title)));
    for row in rows {
        table.add_row(row);
    }
    if table.is_empty() {
        return String::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// A duration for people, from seconds: the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Items with a separator, or a dash if there are none.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    let text = items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(separator);
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// `1 pod`, `2 pods`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests;
