//! What people and machines read: aligned tables, key-value sheets and JSON.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use model::inspection::Severity;
use serde::Serialize;

use crate::failure::Failure;

/// Headings and names.
pub(crate) const STRONG: Style = Style::new().bold();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// Allowed, verified, active.
pub(crate) const GOOD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
/// Refused, broken, retired.
pub(crate) const BAD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
/// Needs a look.
pub(crate) const WARN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
/// Things to type.
pub(crate) const CODE: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));

/// Text in a style; colours are stripped on the way out where nobody could see them.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(anstream::stdout(), "{text}")?;
    Ok(())
}

/// Writes one line about what is going on to standard error, where it disturbs no pipe.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Nobody reads standard error: nothing to do about that.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes indented JSON to standard output.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(format!("the answer is no JSON: {error}")))?;
    line(text)
}

/// Writes JSON on one line, for streams of records.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("the answer is no JSON: {error}")))?;
    line(text)
}

/// Writes rows under a heading, aligned; `empty` says in words that there are none.
pub(crate) fn table(heading: &[&str], rows: Vec<Vec<String>>, empty: &str) -> Result<(), Failure> {
    if rows.is_empty() {
        return line(paint(FAINT, empty));
    }
    line(aligned(heading, rows))
}

fn aligned(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    let heading = heading
        .iter()
        .map(|title| paint(FAINT, title.to_uppercase()))
        .collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(width_of(cell));
        }
    }
    let mut lines = Vec::new();
    for row in &rows {
        // Blanks only in front of something, so that no line ends with them.
        let (mut line, mut blanks) = (String::new(), 0);
        for (cell, width) in row.iter().zip(&widths) {
            let own = width_of(cell);
            if own > 0 {
                line.push_str(&" ".repeat(blanks));
                line.push_str(cell);
                blanks = 0;
            }
            blanks += width - own + 2;
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// How wide text is on a terminal, without its colours.
fn width_of(text: &str) -> usize {
    anstream::adapter::strip_str(text)
        .to_string()
        .chars()
        .count()
}

/// Writes names and values under each other.
pub(crate) fn sheet(rows: &[(&str, String)]) -> Result<(), Failure> {
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

/// A point in time, to the second, in UTC.
pub(crate) fn instant(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A length of time in the largest units that say it exactly, such as `1h 30m`.
pub(crate) fn span(length: std::time::Duration) -> String {
    let seconds = length.as_secs();
    let parts = [
        (seconds / 3_600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if shown.is_empty() {
        "0s".to_owned()
    } else {
        shown.join(" ")
    }
}

/// A number of bytes as people say it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut size = count;
    // Tenths, so that no floating point is needed.
    let mut tenths = count.saturating_mul(10);
    while size >= 1_000 && unit + 1 < UNITS.len() {
        size /= 1_000;
        tenths /= 1_000;
        unit += 1;
    }
    if unit == 0 || size >= 100 {
        format!("{size} {}", UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// Text from elsewhere on one line, in which control characters cannot play with the terminal.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The colour of a severity.
pub(crate) fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Info | Severity::Low => FAINT,
        Severity::Medium => WARN,
        Severity::High | Severity::Critical => BAD,
    }
}

/// A severity in its colour.
pub(crate) fn severity(severity: Severity) -> String {
    paint(severity_style(severity), severity)
}

/// A state in the colour of its meaning.
pub(crate) fn state(word: &str) -> String {
    let style = match word {
        "active" | "open" | "answered" | "permitted" | "approved" | "enabled" | "ready" => GOOD,
        "registered" | "completed" | "expired" | "cancelled" | "idle" | "closed"
        | "false-alarm" => FAINT,
        "quarantined" | "disabled" | "degraded" | "pending" | "destroyed" => WARN,
        "retired" | "revoked" | "denied" | "refused" | "failed" => BAD,
        _ => Style::new(),
    };
    paint(style, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let span = |seconds| span(std::time::Duration::from_secs(seconds));
        assert_eq!([span(0), span(90), span(5_400)], ["0s", "1m 30s", "1h 30m"]);
        let shown = [0, 999, 1_000, 1_234_567, u64::MAX].map(bytes);
        assert_eq!(shown[..4], ["0 B", "999 B", "1.0 kB", "1.2 MB"]);
    }

    #[test]
    fn columns_line_up_and_have_no_trailing_blanks() {
        let rows = vec![
            vec![
                "triage".to_owned(),
                state("active"),
                "ada@example.org".to_owned(),
            ],
            vec!["a".to_owned(), state("quarantined"), String::new()],
        ];
        let text = aligned(&["agent", "state", "sponsor"], rows);
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @r"
        AGENT   STATE        SPONSOR
        triage  active       ada@example.org
        a       quarantined
        ");
    }
}
