//! Values that belong together and have names, such as the rows of a database.

use std::fmt::Write as _;

use super::{About, Inspection, Verdict};

impl Inspection {
    /// Whether anything at all is looked for in what belongs to this.
    #[must_use]
    pub fn looks(&self, about: &About<'_>) -> bool {
        !self.rules.load().is_idle(about)
    }

    /// Looks at values with their names, all of them together, so that what is split over several is found
    /// as well. Redacted are those of them that something is taken out of.
    #[must_use]
    pub fn fields(
        &self,
        about: &About<'_>,
        fields: &[(&str, &str)],
    ) -> Verdict<Vec<Option<String>>> {
        if !self.looks(about) {
            return Verdict::Pass;
        }
        let length = fields
            .iter()
            .map(|(name, value)| name.len() + value.len() + 3);
        let mut joined = String::with_capacity(length.sum());
        let mut places = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            // A value stands behind its name, as people write it: `password: …` says what it is.
            if !name.is_empty() {
                let _ = write!(joined, "{name}: ");
            }
            let from = joined.len();
            joined.push_str(value);
            places.push((from, joined.len()));
            joined.push('\n');
        }
        let scan = self.scan(about, &joined);
        self.judge(about, scan, |scan| {
            let places = places.iter();
            places
                .map(|place| replaced(&joined, *place, &scan.redactions))
                .collect()
        })
    }
}

/// A part of a text with what is to be taken out replaced; `None` when nothing is. What goes over several
/// parts empties the later ones.
fn replaced(
    text: &str,
    (from, to): (usize, usize),
    redactions: &[(usize, usize, String)],
) -> Option<String> {
    let here = redactions
        .iter()
        .filter(|(start, end, _)| *start < to && *end > from);
    let mut out = None;
    let mut at = from;
    for (start, end, instead) in here {
        let out = out.get_or_insert_with(String::new);
        out.push_str(text.get(at..(*start).max(at)).unwrap_or_default());
        if *start >= from {
            out.push_str(instead);
        }
        at = (*end).min(to).max(at);
    }
    let mut out = out?;
    out.push_str(text.get(at..to).unwrap_or_default());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_several_values_is_taken_out_of_all() {
        let text = "a: one\nb: two\n";
        let places = [(3, 6), (10, 13)];
        let over = [(4, 12, "X".to_owned())];
        let both: Vec<_> = places
            .iter()
            .map(|place| replaced(text, *place, &over))
            .collect();
        assert_eq!(both, [Some("oX".to_owned()), Some("o".to_owned())]);
        assert_eq!(replaced(text, (3, 6), &[(10, 13, "X".to_owned())]), None);
    }
}
