//! Characters that a reader does not see, and a model does.

/// Why a character is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hidden {
    /// It has no width, such as U+200B.
    ZeroWidth,
    /// It turns the order in which text is shown, such as U+202E (Trojan Source, CVE-2021-42574).
    Bidirectional,
    /// A tag character (U+E0000 to U+E007F): invisible ASCII.
    Tag,
    /// A variation selector: 256 of them carry arbitrary bytes behind one visible character.
    Variation,
    /// A blank letter, such as the Hangul filler U+3164.
    Filler,
    /// A control character other than tab and line ends; U+001B begins commands to terminals.
    Control,
}

impl Hidden {
    /// What such characters are called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ZeroWidth => "zero-width",
            Self::Bidirectional => "bidirectional",
            Self::Tag => "tag",
            Self::Variation => "variation selector",
            Self::Filler => "blank letter",
            Self::Control => "control",
        }
    }
}

/// Why a character is not seen; `None` when it is. A joiner or a selector within an emoji or a script that
/// needs it is hidden too: whoever reports must look at its neighbours.
#[must_use]
pub fn hidden(c: char) -> Option<Hidden> {
    Some(match c {
        '\u{ad}' | '\u{34f}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200d}' => {
            Hidden::ZeroWidth
        }
        '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{feff}' => Hidden::ZeroWidth,
        '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' => Hidden::ZeroWidth,
        '\u{61c}' | '\u{200e}' | '\u{200f}' => Hidden::Bidirectional,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Hidden::Bidirectional,
        '\u{e0000}'..='\u{e007f}' => Hidden::Tag,
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => Hidden::Variation,
        '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => Hidden::Filler,
        '\u{3164}' | '\u{ffa0}' | '\u{2800}' => Hidden::Filler,
        '\t' | '\n' | '\r' => return None,
        _ if c.is_control() => Hidden::Control,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_not_hidden() {
        assert!(
            "plain, grüße 東京 🙂\n\t"
                .chars()
                .all(|c| hidden(c).is_none())
        );
        assert_eq!(hidden('\u{200b}'), Some(Hidden::ZeroWidth));
        assert_eq!(hidden('\u{202e}'), Some(Hidden::Bidirectional));
        assert_eq!(hidden('\u{e0049}'), Some(Hidden::Tag));
        assert_eq!(hidden('\u{1b}'), Some(Hidden::Control));
        assert_eq!(hidden('\u{9b}'), Some(Hidden::Control));
    }
}
