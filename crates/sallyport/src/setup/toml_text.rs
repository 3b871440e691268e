//! Finding every mistake in a TOML file, and the places of its values.
//!
//! The parser stops at the first value that does not fit. So that a person sees all of them at
//! once, the entry with the mistake is blanked out, which keeps all places, and the rest is read
//! again.

use std::ops::Range;
use std::path::Path;

use model::Mistake;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most mistakes that are looked for in one file.
const MISTAKES: usize = 64;

/// Reads a text with `parse`, or finds every mistake in it.
pub(crate) fn read<T>(
    file: &Path,
    text: &str,
    parse: impl Fn(&str) -> Result<T, Vec<Mistake>>,
) -> Result<T, Vec<Mistake>> {
    let (_, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mistakes = errors.iter().map(|error| {
            Mistake::new(file, error.message())
                .at(error.span())
                .hint("this is not valid TOML")
        });
        return Err(mistakes.take(MISTAKES).collect());
    }
    let first = match parse(text) {
        Ok(value) => return Ok(value),
        Err(mistakes) => mistakes,
    };
    let mut found: Vec<Mistake> = Vec::new();
    let mut blanked = Vec::new();
    let mut rest = text.to_owned();
    let mut mistakes = first;
    while found.len() < MISTAKES {
        // What is missing because it was blanked out is no further mistake.
        let is_owed = |mistake: &Mistake| {
            blanked
                .iter()
                .any(|key| mistake.message == format!("missing field `{key}`"))
        };
        let owed = mistakes.iter().find(|mistake| is_owed(mistake)).cloned();
        mistakes.retain(|mistake| !is_owed(mistake));
        let range = match (mistakes.first().cloned(), owed) {
            (Some(mistake), _) => {
                found.append(&mut mistakes);
                let entry = mistake.span.and_then(|span| entry_at(&rest, &span));
                entry.map(|entry| {
                    blanked.push(entry.key);
                    entry.range
                })
            }
            // Its table says nothing more without it: whatever else is wrong there was told before.
            (None, Some(owed)) => owed.span.and_then(|span| section_at(&rest, span.start)),
            (None, None) => None,
        };
        let Some(range) = range else { break };
        blank(&mut rest, range);
        mistakes = match parse(&rest) {
            Ok(_) => break,
            Err(mistakes) => mistakes,
        };
    }
    for mistake in &mut found {
        explain(mistake);
    }
    Err(found)
}

/// Turns what the parser says into what a person can act on.
fn explain(mistake: &mut Mistake) {
    if mistake.hint.is_some() {
        return;
    }
    let message = mistake.message.clone();
    if let Some((unknown, known)) = unknown_field(&message) {
        let known: Vec<&str> = known.collect();
        mistake.message = format!("there is no setting `{unknown}` here");
        mistake.hint = Some(match closest(unknown, &known) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("known here: {}", known.join(", ")),
        });
    } else if let Some(field) = message.strip_prefix("missing field ") {
        mistake.message = format!("the setting {field} is missing");
        mistake.hint = Some(format!("add {field}"));
    } else if let Some((_, wanted)) = message.split_once(", expected ") {
        mistake.hint = Some(format!("write {wanted}"));
    }
}

/// Takes apart ``unknown field `a`, expected one of `b`, `c` ``.
fn unknown_field(message: &str) -> Option<(&str, impl Iterator<Item = &str>)> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (unknown, rest) = rest.split_once('`')?;
    Some((unknown, rest.split('`').skip(1).step_by(2)))
}

/// The known word that is nearest to what was written, if it is near enough to be meant.
pub(crate) fn closest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (distance(written, word), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// The number of characters to insert, remove or replace (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

struct Entry {
    key: String,
    range: Range<usize>,
}

/// The `key = value` that covers a place and can be blanked out: the innermost that stands on
/// lines of its own, so that what is left is still TOML.
fn entry_at(text: &str, place: &Range<usize>) -> Option<Entry> {
    fn search(table: &DeTable<'_>, place: &Range<usize>, text: &str, best: &mut Option<Entry>) {
        for (key, value) in table {
            let range = key.span().start..value.span().end.max(key.span().end);
            let inside = range.start <= place.start && place.end <= range.end;
            let own_line = text[..range.start]
                .bytes()
                .rev()
                .take_while(|b| *b != b'\n')
                .all(|b| b == b' ' || b == b'\t');
            if inside && own_line {
                *best = Some(Entry {
                    key: key.get_ref().to_string(),
                    range,
                });
            }
            below(value, place, text, best);
        }
    }
    fn below(
        value: &Spanned<DeValue<'_>>,
        place: &Range<usize>,
        text: &str,
        best: &mut Option<Entry>,
    ) {
        match value.get_ref() {
            DeValue::Table(table) => search(table, place, text, best),
            DeValue::Array(items) => {
                items.iter().for_each(|item| below(item, place, text, best));
            }
            _ => {}
        }
    }
    let document = DeTable::parse(text).ok()?;
    let mut best = None;
    search(document.get_ref(), place, text, &mut best);
    best
}

/// The table with a header of its own that a place is in, with its header.
fn section_at(text: &str, place: usize) -> Option<Range<usize>> {
    let mut section = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            if at > place {
                break;
            }
            section = Some(at..at);
        }
        at += line.len();
        if let Some(section) = &mut section {
            section.end = at;
        }
    }
    section.filter(|section| section.contains(&place))
}

fn blank(text: &mut String, range: Range<usize>) {
    let blanks: String = text[range.clone()]
        .bytes()
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect();
    text.replace_range(range, &blanks);
}

/// The place of the value at a path of keys, with positions for elements of arrays; if there is no
/// such value, that of the last key on the way that is there.
pub(crate) fn place(text: &str, path: &[&str]) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut table = Some(document.get_ref());
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for step in path {
        let next = match (table, value.map(Spanned::get_ref)) {
            (Some(table), _) => {
                table
                    .iter()
                    .find(|(key, _)| key.get_ref() == step)
                    .map(|(key, next)| {
                        found = Some(if next.get_ref().is_table() {
                            key.span()
                        } else {
                            next.span()
                        });
                        next
                    })
            }
            (None, Some(DeValue::Array(items))) => step
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index))
                .inspect(|next| {
                    found = Some(next.span());
                }),
            _ => None,
        };
        let Some(next) = next else { break };
        table = next.get_ref().as_table();
        value = Some(next);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::Config;

    #[test]
    fn every_mistake_is_found_not_only_the_first() {
        let text = "trust_domain = \"example.org\"\n\
                    data_dri = \"data\"\n\
                    [gateway]\nlisten = \"nowhere\"\n\
                    [limits]\nsessions = \"many\"\nrequest_byte = 5\n\
                    [servers.files]\ncomand = [\"x\"]\n\
                    [servers.files.environment]\nA = { fille = \"x\" }\n";
        let file = Path::new("sallyport.toml");
        let mistakes = read(file, text, |text| Config::parse(file, text)).unwrap_err();
        let mut lines: Vec<usize> = mistakes
            .iter()
            .map(|mistake| mistake.line_in(text).unwrap())
            .collect();
        lines.sort_unstable();
        assert_eq!(lines, [2, 4, 6, 7, 9, 11], "{mistakes:#?}");
        let hints: Vec<_> = mistakes
            .iter()
            .filter_map(|mistake| mistake.hint.as_deref())
            .collect();
        assert!(hints.contains(&"did you mean `data_dir`?"), "{hints:?}");
        assert!(hints.contains(&"did you mean `file`?"), "{hints:?}");
    }

    #[test]
    fn places_are_those_of_values() {
        let text = "[servers.files]\nurl = \"x\"\n[[allow]]\ntools = [\"a\", \"bc\"]\n";
        let at = |path: &[&str]| place(text, path).map(|span| &text[span]);
        assert_eq!(at(&["servers", "files", "url"]), Some("\"x\""));
        assert_eq!(at(&["servers", "files", "nothing"]), Some("files"));
        assert_eq!(at(&["allow", "0", "tools", "1"]), Some("\"bc\""));
        assert_eq!(at(&["nothing"]), None);
    }

    #[test]
    fn a_far_word_is_not_meant() {
        assert_eq!(closest("listn", &["listen", "tls"]), Some("listen"));
        assert_eq!(closest("banana", &["listen", "tls"]), None);
    }
}
