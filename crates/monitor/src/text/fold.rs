//! Texts made comparable: one form for all the ways to write the same words.
//!
//! *Folding* keeps words apart: compatibility forms and accents are resolved (NFKD without marks), letters
//! are lower case, characters that only look like ASCII become ASCII (UTS 39), hidden characters are gone
//! and white space is one blank. *Squeezing* goes on: nothing but letters and digits is left, and letters
//! are one with the digits and signs that stand for them (`1gn0re`). Both remember where everything was.

use std::borrow::Cow;
use std::sync::OnceLock;

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

use super::hidden;

/// A folded text, with the way back.
#[derive(Debug, Clone, Default)]
pub struct Folded {
    text: String,
    map: Map,
}

/// A squeezed text, with the way back to the original.
#[derive(Debug, Clone, Default)]
pub struct Squeezed {
    text: String,
    map: Map,
}

/// Where the parts of one text were in another: from each `out` on, bytes come one to one from `from` on.
#[derive(Debug, Clone, Default)]
struct Map {
    steps: Vec<(u32, u32)>,
}

impl Map {
    fn note(&mut self, out: usize, from: usize) {
        let (Ok(out), Ok(from)) = (u32::try_from(out), u32::try_from(from)) else {
            return;
        };
        match self.steps.last_mut() {
            Some(last) if from.wrapping_sub(out) == last.1.wrapping_sub(last.0) => {}
            Some(last) if last.0 == out => last.1 = from,
            _ => self.steps.push((out, from)),
        }
    }

    fn back(&self, out: usize) -> usize {
        let wanted = u32::try_from(out).unwrap_or(u32::MAX);
        let after = self.steps.partition_point(|step| step.0 <= wanted);
        match after.checked_sub(1).map(|before| self.steps[before]) {
            Some((start, from)) => from as usize + (wanted - start) as usize,
            None => out,
        }
    }

    /// The bytes of the original that bytes came from.
    fn span(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.back(start);
        let last = self.back(end.saturating_sub(1).max(start));
        (first, (last + 1).max(first))
    }
}

impl Folded {
    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes of the original that bytes of the folded text came from.
    #[must_use]
    pub fn span(&self, start: usize, end: usize) -> (usize, usize) {
        self.map.span(start, end)
    }
}

impl Squeezed {
    /// The squeezed text: ASCII letters and digits, and letters of other scripts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes of the original that bytes of the squeezed text came from.
    #[must_use]
    pub fn span(&self, start: usize, end: usize) -> (usize, usize) {
        self.map.span(start, end)
    }
}

/// Folds a text.
#[must_use]
pub fn fold(text: &str) -> Folded {
    let mut out = String::with_capacity(text.len());
    let mut map = Map::default();
    let mut blank = true;
    for (at, c) in text.char_indices() {
        if c.is_ascii() {
            match c {
                '\t' | '\n' | '\r' | ' ' => {
                    if !blank {
                        map.note(out.len(), at);
                        out.push(' ');
                    }
                    blank = true;
                }
                '\0'..='\u{1f}' | '\u{7f}' => {}
                _ => {
                    map.note(out.len(), at);
                    out.push(c.to_ascii_lowercase());
                    blank = false;
                }
            }
            continue;
        }
        match &*folds_to(c) {
            FoldsTo::Nothing => {}
            FoldsTo::Blank => {
                if !blank {
                    map.note(out.len(), at);
                    out.push(' ');
                }
                blank = true;
            }
            FoldsTo::Char(other) => {
                map.note(out.len(), at);
                out.push(*other);
                blank = false;
            }
            FoldsTo::Chars(others) => {
                for other in others.chars() {
                    if other != ' ' || !blank {
                        map.note(out.len(), at);
                        out.push(other);
                    }
                    blank = other == ' ';
                }
            }
        }
    }
    Folded { text: out, map }
}

/// What one character outside ASCII folds to.
#[derive(Debug, Clone)]
enum FoldsTo {
    Nothing,
    Blank,
    Char(char),
    Chars(Box<str>),
}

/// How many characters are looked up together.
const BLOCK: usize = 256;
/// How many blocks are remembered: of the first two planes, where all scripts in use are. The others, at
/// up to 24 bytes for each of a million characters, are not worth it.
const BLOCKS: usize = 0x2_0000 / BLOCK;

/// What characters fold to: found out for a block of them when the first one of it is met, since that takes
/// a microsecond for each.
static FOLDS: [OnceLock<Box<[FoldsTo]>>; BLOCKS] = [const { OnceLock::new() }; BLOCKS];

fn folds_to(c: char) -> Cow<'static, FoldsTo> {
    let code = c as usize;
    let Some(block) = FOLDS.get(code / BLOCK) else {
        return Cow::Owned(find_out(c));
    };
    let block = block.get_or_init(|| {
        let begin = code / BLOCK * BLOCK;
        (begin..begin + BLOCK)
            .map(|code| {
                let c = u32::try_from(code).ok().and_then(char::from_u32);
                c.map_or(FoldsTo::Nothing, find_out)
            })
            .collect()
    });
    Cow::Borrowed(&block[code % BLOCK])
}

fn find_out(c: char) -> FoldsTo {
    if hidden(c).is_some() {
        return FoldsTo::Nothing;
    }
    let mut to = String::new();
    decompose_compatible(c, |part| {
        for lower in part.to_lowercase() {
            if is_combining_mark(lower) || hidden(lower).is_some() {
                continue;
            }
            if lower.is_whitespace() {
                to.push(' ');
                continue;
            }
            match ascii_prototype(lower) {
                Some(prototype) => to.extend(prototype.iter().map(char::to_ascii_lowercase)),
                None => to.push(lower),
            }
        }
    });
    let mut chars = to.chars();
    match (chars.next(), chars.next()) {
        (None, _) => FoldsTo::Nothing,
        (Some(' '), None) => FoldsTo::Blank,
        (Some(one), None) => FoldsTo::Char(one),
        _ => FoldsTo::Chars(to.into_boxed_str()),
    }
}

/// Squeezes a folded text.
#[must_use]
pub fn squeeze(folded: &Folded) -> Squeezed {
    let text = folded.as_str();
    let mut out = String::with_capacity(text.len());
    let mut map = Map::default();
    let bytes = text.as_bytes();
    for (at, c) in text.char_indices() {
        let kept = if c.is_ascii() {
            let word = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(is_of_word);
            match stands_for(c, word(at.checked_sub(1)), word(Some(at + 1))) {
                Some(kept) => kept,
                None => continue,
            }
        } else if c.is_alphanumeric() {
            c
        } else {
            continue;
        };
        map.note(out.len(), folded.map.back(at));
        out.push(kept);
    }
    Squeezed { text: out, map }
}

/// What stands for nothing in squeezed texts.
const DROPPED: u8 = 0;
/// What stands for a letter only within a word.
const SIGN: u8 = 1;

/// For each byte of printable ASCII, what is left of it in a squeezed text.
const SQUEEZED: [u8; 256] = squeezed_bytes();

const fn squeezed_bytes() -> [u8; 256] {
    let mut bytes = [DROPPED; 256];
    let mut at = 0;
    while at < 128 {
        let byte = (at as u8).to_ascii_lowercase();
        bytes[at] = match byte {
            b'l' | b'1' | b'i' => b'i',
            b'0' | b'o' => b'o',
            b'3' | b'e' => b'e',
            b'4' | b'a' => b'a',
            b'5' | b's' => b's',
            b'7' | b't' => b't',
            b'!' | b'|' | b'@' | b'$' => SIGN,
            b'a'..=b'z' | b'0'..=b'9' => byte,
            _ => DROPPED,
        };
        at += 1;
    }
    bytes
}

/// What the byte at a place of a text of printable ASCII becomes in its squeezed form; `None` when nothing
/// is left of it.
#[inline]
pub(crate) fn squeezed_byte(text: &[u8], at: usize) -> Option<u8> {
    match SQUEEZED[usize::from(text[at])] {
        DROPPED => None,
        SIGN => {
            let word = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(is_of_word);
            let sign = char::from(text[at]);
            let letter = stands_for(sign, word(at.checked_sub(1)), word(Some(at + 1)))?;
            u8::try_from(letter).ok()
        }
        kept => Some(kept),
    }
}

/// Whether a byte makes what stands beside it stand within a word.
fn is_of_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'$' | b'@')
}

/// Folds a phrase that is searched for in folded texts.
pub(crate) fn fold_phrase(phrase: String) -> String {
    let mut before = b' ';
    let folded = phrase.bytes().all(|byte| {
        let stays = matches!(byte, b'!'..=b'~') && !byte.is_ascii_uppercase();
        let stays = stays || (byte == b' ' && before != b' ');
        before = byte;
        stays
    });
    if folded && before != b' ' {
        return phrase;
    }
    fold(phrase.trim()).as_str().trim().to_owned()
}

/// Squeezes a folded text that was changed since; the way back leads into the changed text.
pub(crate) fn squeeze_turned(turned: String) -> Squeezed {
    squeeze(&Folded {
        text: turned,
        map: Map::default(),
    })
}

/// Squeezes a phrase that is searched for in squeezed texts.
#[must_use]
pub fn squeeze_phrase(phrase: &str) -> String {
    let bytes = phrase.as_bytes();
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        let kept = (0..bytes.len()).filter_map(|at| squeezed_byte(bytes, at));
        return kept.map(char::from).collect();
    }
    squeeze(&fold(phrase)).text
}

/// The one letter for all that stand for it; `None` for what separates. A sign stands for a letter only
/// within a word: `after` and `before` one.
fn stands_for(c: char, after: bool, before: bool) -> Option<char> {
    Some(match c {
        'l' | '1' | 'i' => 'i',
        '0' | 'o' => 'o',
        '3' | 'e' => 'e',
        '4' | 'a' => 'a',
        '5' | 's' => 's',
        '7' | 't' => 't',
        '!' | '|' if before => 'i',
        '@' if after || before => 'a',
        '$' if after || before => 's',
        'a'..='z' | '0'..='9' => c,
        _ => return None,
    })
}

/// The ASCII characters that a character looks like, if it looks like ASCII letters or digits. The first
/// letters of two alphabets are not enough: `ΑΒΓ` is Greek, but whoever reads a rule reads ASCII.
fn ascii_prototype(c: char) -> Option<Prototype> {
    let mut buffer = [0u8; 4];
    let text: &str = c.encode_utf8(&mut buffer);
    let mut prototype = Prototype {
        chars: ['\0'; 4],
        count: 0,
    };
    for looks in unicode_security::skeleton(text) {
        let slot = prototype.chars.get_mut(prototype.count)?;
        if !looks.is_ascii_alphanumeric() {
            return None;
        }
        *slot = looks;
        prototype.count += 1;
    }
    (prototype.count > 0).then_some(prototype)
}

struct Prototype {
    chars: [char; 4],
    count: usize,
}

impl Prototype {
    fn iter(&self) -> impl Iterator<Item = &char> {
        self.chars[..self.count].iter()
    }
}

/// Whether a character outside ASCII looks like ASCII letters or digits.
pub(super) fn looks_ascii(c: char) -> bool {
    !c.is_ascii() && ascii_prototype(c).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_form_for_all_ways_to_write_it() {
        for text in [
            "ignore previous",
            "Ignore\t\n previous",
            "ig\u{200b}nore prev\u{ad}ious",
            "ｉｇｎｏｒｅ ｐｒｅｖｉｏｕｓ",
            "\u{456}gnore previ\u{43e}us",
            "ígnöre prêvious",
            "𝐢𝐠𝐧𝐨𝐫𝐞 𝓹𝓻𝓮𝓿𝓲𝓸𝓾𝓼",
            "I\u{335}g\u{337}nore previous",
        ] {
            assert_eq!(fold(text).as_str(), "ignore previous", "{text}");
        }
    }

    #[test]
    fn separators_and_digits_do_not_hide_words() {
        let wanted = squeeze_phrase("ignore previous instructions");
        for text in [
            "i g n o r e  p r e v i o u s  i n s t r u c t i o n s",
            "1gn0r3 pr3v10us 1n57ruct10n5",
            "ig-no-re pre/vi/ous **instructions**",
            "IGNORE. PREVIOUS! INSTRUCTIONS",
            "!gnore previou$ in$truct!ons",
        ] {
            assert_eq!(squeeze(&fold(text)).as_str(), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn spans_lead_back_into_the_text(text in "\\PC{0,60}", a in 0usize..80, b in 0usize..80) {
            let folded = fold(&text);
            let squeezed = squeeze(&folded);
            for (out, span) in [
                (folded.as_str().len(), &(|s, e| folded.span(s, e)) as &dyn Fn(usize, usize) -> (usize, usize)),
                (squeezed.as_str().len(), &|s, e| squeezed.span(s, e)),
            ] {
                let (start, end) = (a.min(b).min(out), a.max(b).min(out));
                if start < end {
                    let (first, last) = span(start, end);
                    prop_assert!(first < last);
                    prop_assert!(first <= text.len() + 4);
                }
            }
        }

        #[test]
        fn the_table_squeezes_as_the_long_way_does(text in "[ -~\\t\\n]{0,80}") {
            prop_assert_eq!(squeeze_phrase(&text), squeeze(&fold(&text)).text);
            let bytes: Vec<u8> = (0..text.len())
                .filter_map(|at| squeezed_byte(text.as_bytes(), at))
                .collect();
            let squeezed = squeeze(&fold(&text));
            prop_assert_eq!(std::str::from_utf8(&bytes).unwrap(), squeezed.as_str());
        }

        #[test]
        fn a_phrase_is_folded_as_a_text_is(phrase in "[ a-zA-Zé0-9\\t.]{0,20}") {
            let text = fold(phrase.trim());
            prop_assert_eq!(fold_phrase(phrase.clone()), text.as_str().trim());
        }

        #[test]
        fn folding_twice_is_folding_once(text in "\\PC{0,60}") {
            let once = fold(&text);
            let twice = fold(once.as_str());
            prop_assert_eq!(once.as_str(), twice.as_str());
        }

        #[test]
        fn ascii_words_map_back_to_themselves(before in "[ a-z]{0,20}", after in "[ a-z]{0,20}") {
            let text = format!("{before} NEEDLE  {after}");
            let folded = fold(&text);
            let at = folded.as_str().find("needle").unwrap();
            let (start, end) = folded.span(at, at + 6);
            prop_assert_eq!(&text[start..end], "NEEDLE");
        }
    }
}
