//! Showing remarks about files: where, the line itself with the place underlined, and what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::output::{BAD, CODE, FAINT, STRONG, WARN, paint};
use crate::setup::{Remark, Severity};

/// Longest part of a line that is shown, in characters; longer ones are cut around the place.
const WIDTH: usize = 100;

/// Where in a text something is, as people count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place<'a> {
    /// The line, from 1.
    line: usize,
    /// The character in the line, from 1.
    column: usize,
    /// The line's text.
    text: &'a str,
    /// How many characters of the line are meant; at least 1.
    length: usize,
}

/// A remark as machines read it.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    severity: Severity,
    file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// The remarks as machines read them.
pub(crate) fn entries<'a>(
    remarks: &'a [Remark],
    texts: &'a BTreeMap<PathBuf, String>,
) -> Vec<Entry<'a>> {
    let entry = |remark: &'a Remark| {
        let place = place(remark, texts);
        Entry {
            severity: remark.severity,
            file: &remark.mistake.file,
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            message: &remark.mistake.message,
            hint: remark.mistake.hint.as_deref(),
        }
    };
    remarks.iter().map(entry).collect()
}

/// One remark as people read it, without a line's end.
pub(crate) fn show(remark: &Remark, texts: &BTreeMap<PathBuf, String>) -> String {
    let (word, style) = match remark.severity {
        Severity::Mistake => ("mistake", BAD),
        Severity::Advice => ("advice", WARN),
    };
    let mistake = &remark.mistake;
    let word = paint(style.bold(), format_args!("{word}:"));
    let mut shown = format!("{word} {}", paint(STRONG, visible(&mistake.message)));
    let place = place(remark, texts);
    let file = mistake.file.display();
    let Some(place) = place else {
        shown.push_str(&format!("\n  {} {file}", paint(FAINT, "-->")));
        if let Some(hint) = &mistake.hint {
            shown.push_str(&format!("\n   {} {}", paint(CODE, "hint:"), visible(hint)));
        }
        return shown;
    };
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let bar = paint(FAINT, "|");
    let (text, before) = excerpt(place);
    let marks = "^".repeat(
        place
            .length
            .min(text.chars().count().saturating_sub(before))
            .max(1),
    );
    shown.push_str(&format!(
        "\n {margin}{} {file}:{}:{}\n {margin} {bar}\n {} {bar} {text}\n {margin} {bar} {}{}",
        paint(FAINT, "-->"),
        place.line,
        place.column,
        paint(FAINT, &number),
        " ".repeat(before),
        paint(style, marks),
    ));
    if let Some(hint) = &mistake.hint {
        let sign = paint(FAINT, "=");
        let word = paint(CODE, "hint:");
        shown.push_str(&format!("\n {margin} {sign} {word} {}", visible(hint)));
    }
    shown
}

/// "2 mistakes and 1 piece of advice", or nothing when there is neither.
pub(crate) fn tally(mistakes: usize, advice: usize) -> String {
    let mistakes = match mistakes {
        0 => None,
        1 => Some("1 mistake".to_owned()),
        many => Some(format!("{many} mistakes")),
    };
    let advice = match advice {
        0 => None,
        1 => Some("1 piece of advice".to_owned()),
        many => Some(format!("{many} pieces of advice")),
    };
    [mistakes, advice]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" and ")
}

fn place<'a>(remark: &Remark, texts: &'a BTreeMap<PathBuf, String>) -> Option<Place<'a>> {
    let text = texts.get(&remark.mistake.file)?;
    let span = remark.mistake.span.as_ref()?;
    let start = floor(text, span.start);
    let end = floor(text, span.end.max(start));
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    Some(Place {
        line: text[..start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        text: text[line_start..line_end].trim_end_matches('\r'),
        length: text[start..end.min(line_end)].chars().count().max(1),
    })
}

/// The nearest character boundary at or before a position.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The part of the line that is shown, and how many characters of it stand before the place.
fn excerpt(place: Place<'_>) -> (String, usize) {
    let characters: Vec<char> = place.text.chars().collect();
    let at = (place.column - 1).min(characters.len());
    // Tabs have no width of their own, and control characters could play with the terminal.
    let plain = |c: &char| if c.is_control() { ' ' } else { *c };
    if characters.len() <= WIDTH {
        return (characters.iter().map(plain).collect(), at);
    }
    let from = at.saturating_sub(WIDTH / 2).min(characters.len() - WIDTH);
    let text = characters[from..from + WIDTH].iter().map(plain).collect();
    (text, at - from)
}

/// Text in which control characters cannot play with the terminal.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Mistake;

    fn shown(text: &str, mistake: Mistake) -> String {
        let texts = BTreeMap::from([(PathBuf::from("sallyport.toml"), text.to_owned())]);
        anstream::adapter::strip_str(&show(&mistake.into(), &texts)).to_string()
    }

    #[test]
    fn the_place_is_underlined_and_the_hint_follows() {
        let text = "trust_domain = \"example.org\"\ndata_dri = \"data\"\n";
        let mistake = Mistake::new("sallyport.toml", "there is no setting `data_dri` here")
            .at(Some(29..37))
            .hint("did you mean `data_dir`?");
        insta::assert_snapshot!(shown(text, mistake), @r#"
        mistake: there is no setting `data_dri` here
          --> sallyport.toml:2:1
           |
         2 | data_dri = "data"
           | ^^^^^^^^
           = hint: did you mean `data_dir`?
        "#);
    }

    #[test]
    fn a_remark_without_a_place_names_the_file() {
        let mistake = Mistake::new("sallyport.toml", "no server is protected yet").hint("add one");
        insta::assert_snapshot!(shown("", mistake), @r"
        mistake: no server is protected yet
          --> sallyport.toml
           hint: add one
        ");
    }

    #[test]
    fn places_in_the_middle_of_anything_do_not_panic() {
        let text = "a = \"ä\u{1b}[2J\"\r\n\tlong".to_owned() + &"x".repeat(300);
        for start in 0..text.len() + 3 {
            for end in [start, start + 1, start + 500] {
                let mistake = Mistake::new("sallyport.toml", "x\u{1b}[2J").at(Some(start..end));
                let shown = shown(&text, mistake);
                assert!(!shown.contains('\u{1b}'));
                assert!(shown.lines().all(|line| line.chars().count() < WIDTH + 20));
            }
        }
    }

    #[test]
    fn counts_are_words() {
        assert_eq!(tally(1, 0), "1 mistake");
        assert_eq!(tally(2, 1), "2 mistakes and 1 piece of advice");
        assert_eq!(tally(0, 3), "3 pieces of advice");
    }
}
