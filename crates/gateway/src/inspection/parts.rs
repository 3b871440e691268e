//! Texts that are too long to be looked at at once: part by part, with what lies across a border in both.

use monitor::content::Scan;

/// Longest text that is looked at at once, in bytes: as much as a scanner looks at.
const LONGEST: usize = 1 << 20;
/// How much of a part is in the next one too, in bytes: more than any credential is long.
const OVERLAP: usize = 4 << 10;

/// Looks at a text.
pub(super) fn scanned(text: &str, scan: impl Fn(&str) -> Scan) -> Scan {
    if text.len() <= LONGEST {
        return scan(text);
    }
    let mut from = 0;
    let mut all: Option<Scan> = None;
    loop {
        let to = text.floor_char_boundary(from + LONGEST);
        let part = scan(&text[from..to]);
        match &mut all {
            Some(all) => all.absorb_part(part, from),
            None => all = Some(part),
        }
        match all {
            Some(all) if to == text.len() => return all,
            _ => from = text.floor_char_boundary(to - OVERLAP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor::content::{Canaries, Place, Policy, Scanner};

    #[test]
    fn every_part_is_looked_at_and_borders_hide_nothing() {
        let token = format!(
            "{}{}",
            "gh".to_owned() + "p_",
            "a8Kd02LmQpZx7Vn4Rt6Yb1Wc9Hs3Jf5Ge0Uo"
        );
        let scanner = Scanner::shared();
        let look = |text: &str| {
            scanner.scan(
                text,
                Place::Result,
                &Canaries::default(),
                &Policy::default(),
            )
        };
        for at in [
            10,
            LONGEST - 20,
            LONGEST + 5,
            2 * LONGEST - OVERLAP,
            3 * LONGEST - 60,
        ] {
            let mut text = "é ".repeat(LONGEST);
            let at = text.floor_char_boundary(at);
            text.replace_range(at..at, &format!(" {token} "));
            let scan = scanned(&text, look);
            let taken: Vec<&str> = scan
                .redactions
                .iter()
                .map(|(from, to, _)| &text[*from..*to])
                .collect();
            assert_eq!(taken, [token.as_str()], "{at}");
            assert!(scan.complete);
        }
    }
}
