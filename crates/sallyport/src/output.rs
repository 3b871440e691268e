//! What people and machines read: aligned tables, key-value sheets and JSON.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, ContentArrangement, Table};
use serde::Serialize;

use crate::failure::Failure;

/// Headings and names.
pub const STRONG: Style = Style::new().bold();
/// What matters less.
pub const FAINT: Style = Style::new().dimmed();
/// Allowed, verified, active.
pub const GOOD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
/// Refused, broken, retired.
pub const BAD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
/// Needs a look.
pub const WARN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
/// Things to type.
pub const CODE: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));

/// Text in a style; colours are stripped on the way out where nobody could see them.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes one line to standard output.
pub fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(anstream::stdout(), "{text}")?;
    Ok(())
}

/// Writes one line about what is going on to standard error, where it disturbs no pipe.
pub fn note(text: impl std::fmt::Display) {
    // Nobody reads standard error: nothing to do about that.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes indented JSON to standard output.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(format!("the answer is no JSON: {error}")))?;
    line(text)
}

/// Writes JSON on one line, for streams of records.
pub fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("the answer is no JSON: {error}")))?;
    line(text)
}

/// Writes rows under a heading, aligned; `empty` says in words that there are none.
pub fn table(heading: &[&str], rows: Vec<Vec<String>>, empty: &str) -> Result<(), Failure> {
    if rows.is_empty() {
        return line(paint(FAINT, empty));
    }
    line(aligned(heading, rows))
}

fn aligned(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(
        heading
            .iter()
            .map(|title| Cell::new(paint(FAINT, title.to_uppercase()))),
    );
    for row in rows {
        table.add_row(row.into_iter().map(Cell::new));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Writes names and values under each other.
pub fn sheet(rows: &[(&str, String)]) -> Result<(), Failure> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        let name = paint(FAINT, format_args!("{name:width$}"));
        let mut lines = value.lines();
        line(format_args!("{name}  {}", lines.next().unwrap_or("")))?;
        for more in lines {
            line(format_args!("{:width$}  {more}", ""))?;
        }
    }
    Ok(())
}

/// A state in the colour of its meaning.
pub fn state(word: &str) -> String {
    let style = match word {
        "active" | "open" | "answered" | "permitted" | "ok" | "ready" => GOOD,
        "registered" | "completed" | "expired" | "idle" => FAINT,
        "quarantined" | "disabled" | "degraded" => WARN,
        "retired" | "revoked" | "denied" | "refused" | "failed" => BAD,
        _ => Style::new(),
    };
    paint(style, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_have_no_trailing_blanks() {
        let rows = vec![
            vec!["triage".to_owned(), state("active"), "ada@example.org".to_owned()],
            vec!["a".to_owned(), state("quarantined"), String::new()],
        ];
        let text = aligned(&["agent", "state", "sponsor"], rows);
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @"");
    }
}
