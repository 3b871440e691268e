//! The headers of an answer.

use http::{HeaderMap, HeaderName};

use super::Undone;
use crate::inspection::{About, Inspection, Verdict};

impl Inspection {
    /// Looks at the headers of an answer as the agent would get them. Of a header in which something is to be
    /// taken out nothing passes: redacted are the names of those.
    #[must_use]
    pub fn headers(&self, about: &About<'_>, headers: &HeaderMap) -> Verdict<Vec<HeaderName>> {
        let mut text = String::with_capacity(512);
        let mut lines = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let from = text.len();
            text.push_str(name.as_str());
            text.push_str(": ");
            text.push_str(&String::from_utf8_lossy(value.as_bytes()));
            text.push('\n');
            lines.push((from, text.len(), name));
        }
        let mut scan = self.scan(about, &text);
        if let Some(undone) = Undone::of(&text) {
            let mut more = self.scan(about, &undone.text);
            for (start, end, instead) in std::mem::take(&mut more.redactions) {
                let (start, end) = undone.span(start, end);
                scan.redactions.push((start, end, instead));
            }
            scan.absorb(more);
        }
        self.judge(about, scan, |scan| {
            let is_in = |from: usize, to: usize| {
                scan.redactions
                    .iter()
                    .any(|(start, end, _)| *start < to && *end > from)
            };
            let touched = lines.iter().filter(|(from, to, _)| is_in(*from, *to));
            touched.map(|(_, _, name)| (*name).clone()).collect()
        })
    }
}
