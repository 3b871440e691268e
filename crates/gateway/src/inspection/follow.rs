//! Answers that come in pieces, such as what a model writes or the artifact of another agent: what is split
//! over several pieces is found as what stands in one.
//!
//! Pieces have *places*. What comes at one place is one text; what comes at all places, in the order in
//! which it comes, is another, since that is how agents read it. Where places take turns, or come in
//! another order than they stand in, each is looked at by itself too, and at the end all together as
//! clients put them together.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use model::Denial;
use model::inspection::{Response, Severity};
use monitor::Finding;
use monitor::content::Scan;
use sha2::{Digest as _, Sha256};

use super::text::{Sort, Texts};
use super::{About, Inspection, Verdict};
use strand::{OVERLAP, Strand, Window, end_of};

mod strand;

/// Most places that are told apart; the others count as one. About 1.5 KiB each.
const PLACES: usize = 64;
/// Most texts that are known to have been looked at, at 8 bytes each; the others are looked at again.
const KNOWN: usize = 4_096;
/// A finding of a rule that was reported is not reported again within so many bytes, unless it is worse:
/// mostly it is the same.
const SAME: u64 = 64 << 10;
/// Shortest text that is a label when it comes again and again, in bytes; a shorter one may be a part of
/// a word.
const LABEL: usize = 4;
/// How often all places are looked at together before the end.
const TOGETHER: u8 = 4;

/// Where a piece stands in an answer: numbers, in the order in which clients put the texts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Spot(pub [u64; 3]);

/// Looks at an answer that comes in pieces. What is seen in pieces that have passed already cannot be
/// taken out of them any more: what is to be redacted is reported, what is to be blocked ends the answer.
pub struct Following {
    inspection: Arc<Inspection>,
    /// Everything, in the order in which it came.
    all: Window,
    strands: Vec<Strand>,
    /// What stands beside the texts, each place by itself.
    beside: Vec<Strand>,
    /// Whether there are more places than are told apart, and whether that was said.
    crowded: bool,
    said: bool,
    /// The place that came last.
    last: Option<usize>,
    /// Whether places came in another order than they stand in, or took turns.
    disordered: bool,
    /// How often they were looked at together.
    together: u8,
    told: Told,
    known: HashSet<u64>,
    hashing: RandomState,
}

/// What was reported of one answer, by rule: how bad, and after how many bytes.
#[derive(Debug, Default)]
pub(super) struct Told {
    rules: BTreeMap<String, (Severity, u64)>,
    pub(super) bytes: u64,
}

impl Told {
    pub(super) fn is_new(&mut self, finding: &Finding) -> bool {
        let now = (finding.severity, self.bytes);
        match self.rules.get_mut(&finding.rule) {
            Some(last) if last.0 >= now.0 && now.1 - last.1 < SAME => false,
            Some(last) => {
                *last = now;
                true
            }
            None => {
                self.rules.insert(finding.rule.clone(), now);
                true
            }
        }
    }
}

impl Following {
    pub(super) fn new(inspection: Arc<Inspection>) -> Self {
        Self {
            inspection,
            all: Window::default(),
            strands: Vec::new(),
            beside: Vec::new(),
            last: None,
            crowded: false,
            said: false,
            disordered: false,
            together: 0,
            told: Told::default(),
            known: HashSet::new(),
            hashing: RandomState::new(),
        }
    }

    /// Takes in the next piece at a place.
    ///
    /// # Errors
    /// The denial when the answer must not go on.
    pub fn push(&mut self, about: &About<'_>, place: Spot, piece: &str) -> Result<(), Denial> {
        if !self.inspection.looks(about) {
            return Ok(());
        }
        let Some(strand) = self.arrives(place, piece) else {
            return Ok(());
        };
        self.say_if_crowded(about)?;
        self.all.text.push_str(piece);
        if self.all.is_due() {
            passed(&self.inspection, about, &mut self.all, &mut self.told)?;
        }
        if let Some(own) = &mut self.strands[strand].own {
            own.text.push_str(piece);
            if own.is_due() {
                passed(&self.inspection, about, own, &mut self.told)?;
            }
        }
        Ok(())
    }

    /// The same for a piece that was looked at as it stands: only together with what came before it.
    ///
    /// # Errors
    /// The denial when the answer must not go on.
    pub fn push_looked_at(
        &mut self,
        about: &About<'_>,
        place: Spot,
        piece: &str,
    ) -> Result<(), Denial> {
        if !self.inspection.looks(about) {
            return Ok(());
        }
        let Some(strand) = self.arrives(place, piece) else {
            return Ok(());
        };
        self.say_if_crowded(about)?;
        self.seam_of_all(about, piece)?;
        match self.strands[strand].own.as_mut() {
            Some(own) => seam(&self.inspection, about, own, piece, &mut self.told),
            None => Ok(()),
        }
    }

    /// The same for what stands beside the texts, and goes on only with itself. What stands there in each
    /// event, such as the name of a model, is taken once.
    ///
    /// # Errors
    /// The denial when the answer must not go on.
    pub fn push_beside(
        &mut self,
        about: &About<'_>,
        place: Spot,
        piece: &str,
    ) -> Result<(), Denial> {
        if !self.inspection.looks(about) {
            return Ok(());
        }
        self.told.bytes = self.told.bytes.saturating_add(piece.len() as u64);
        let known = self.beside.iter().position(|strand| strand.place == place);
        let at = known.unwrap_or_else(|| {
            if self.beside.len() < PLACES {
                self.beside.push(Strand::new(place));
            }
            self.beside.len() - 1
        });
        let strand = &mut self.beside[at];
        let hash = self.hashing.hash_one(piece);
        if strand.last.replace(hash) == Some(hash) && piece.len() >= LABEL {
            return Ok(());
        }
        let own = strand.apart();
        let looked = seam(&self.inspection, about, own, piece, &mut self.told);
        strand.note(piece);
        looked
    }

    /// Looks at a text by itself, which has not passed yet.
    #[must_use]
    pub fn text(&mut self, about: &About<'_>, text: &str) -> Verdict<String> {
        if !self.inspection.looks(about) {
            return Verdict::Pass;
        }
        self.told.bytes = self.told.bytes.saturating_add(text.len() as u64);
        let scan = self.inspection.scan(about, text);
        let told = &mut self.told;
        self.inspection.judged(
            about,
            scan,
            |finding| told.is_new(finding),
            |scan| scan.redact(text).into_owned(),
        )
    }

    /// Looks at a document that belongs to the answer, and has not passed yet: what is to be redacted can
    /// be. Its pieces ([`super::Role::Piece`]) go on with what came at the place before. What was
    /// reported of the answer before is not reported again.
    #[must_use]
    pub fn document(
        &mut self,
        about: &About<'_>,
        place: Option<Spot>,
        document: &[u8],
        sort: Sort<'_>,
    ) -> Verdict<Vec<u8>> {
        if !self.inspection.looks(about) {
            return Verdict::Pass;
        }
        let strand = place.and_then(|place| self.strands.iter().find(|it| it.place == place));
        let before = strand
            .map(|strand| strand.tail.as_str())
            .unwrap_or_default();
        let texts = Texts::sorted(before, &[document], Some(sort));
        self.told.bytes = self.told.bytes.saturating_add(document.len() as u64);
        let scan = self.inspection.scan(about, &texts.joined);
        let told = &mut self.told;
        let verdict = self.inspection.judged(
            about,
            scan,
            |finding| told.is_new(finding),
            |scan| texts.replaced(0, document, &scan.redactions),
        );
        let Some(place) = place.filter(|_| !matches!(verdict, Verdict::Blocked(_))) else {
            return verdict.flat();
        };
        let piece = texts.pieces();
        // With the other places, in the order in which they came; its own place was looked at above.
        if self.arrives(place, piece).is_some()
            && let Err(denial) = self
                .say_if_crowded(about)
                .and_then(|()| self.seam_of_all(about, piece))
        {
            return Verdict::Blocked(denial);
        }
        verdict.flat()
    }

    /// Looks at everything that came and was not looked at yet: before something passes that says it
    /// again, or ends the answer.
    ///
    /// # Errors
    /// The denial when the answer must not go on.
    pub fn catch_up(&mut self, about: &About<'_>) -> Result<(), Denial> {
        let own = self.strands.iter_mut().filter_map(|it| it.own.as_mut());
        for window in std::iter::once(&mut self.all).chain(own) {
            if window.has_more() {
                passed(&self.inspection, about, window, &mut self.told)?;
            }
        }
        for strand in &mut self.strands {
            strand.looked_at();
        }
        Ok(())
    }

    /// Looks at what is left at an end of the answer; there may be several, in the words of whoever writes.
    ///
    /// # Errors
    /// The denial when the answer must not go on.
    pub fn end(&mut self, about: &About<'_>) -> Result<(), Denial> {
        self.catch_up(about)?;
        if !self.disordered || self.together >= TOGETHER {
            return Ok(());
        }
        self.together += 1;
        let mut ordered: Vec<&Strand> = self.strands.iter().collect();
        ordered.sort_by_key(|strand| strand.place);
        let mut window = Window::default();
        for strand in ordered {
            strand.ends(&mut window.text);
        }
        passed(&self.inspection, about, &mut window, &mut self.told)
    }

    /// Whether a text was looked at: as it stands, or in pieces before the last [`Self::catch_up`].
    #[must_use]
    pub fn knows(&self, text: &str) -> bool {
        if text.is_empty() || self.known.contains(&self.hashing.hash_one(text)) {
            return true;
        }
        let mut alike = self.strands.iter().filter(|it| it.bytes == text.len());
        let Some(first) = alike.next() else {
            return false;
        };
        let hash: Option<[u8; 32]> = Some(Sha256::digest(text).into());
        first.looked_at == hash || alike.any(|strand| strand.looked_at == hash)
    }

    /// Remembers that a text was looked at.
    pub fn learn(&mut self, text: &str) {
        if self.known.len() < KNOWN {
            self.known.insert(self.hashing.hash_one(text));
        }
    }

    /// Takes in that a piece has come; the position of its place, or none for an empty piece.
    fn arrives(&mut self, place: Spot, piece: &str) -> Option<usize> {
        if piece.is_empty() {
            return None;
        }
        self.told.bytes = self.told.bytes.saturating_add(piece.len() as u64);
        let known = self.strands.iter().position(|strand| strand.place == place);
        let at = match known {
            Some(at) => {
                if self.last.is_some_and(|last| last != at) {
                    self.disordered = true;
                    self.strands[at].apart();
                }
                at
            }
            None => {
                let after = self.strands.iter().all(|strand| strand.place < place);
                self.disordered |= !after;
                if self.strands.len() < PLACES {
                    self.strands.push(Strand::new(place));
                } else {
                    self.crowded = true;
                }
                self.strands.len() - 1
            }
        };
        self.last = Some(at);
        self.strands[at].note(piece);
        Some(at)
    }

    /// What is split over places that are not told apart is not found; once, that is said.
    fn say_if_crowded(&mut self, about: &About<'_>) -> Result<(), Denial> {
        if !self.crowded || std::mem::replace(&mut self.said, true) {
            return Ok(());
        }
        let why = format!("The answer comes at more than {PLACES} places");
        self.inspection.not_all_looked_at(about, why)
    }

    fn seam_of_all(&mut self, about: &About<'_>, piece: &str) -> Result<(), Denial> {
        seam(
            &self.inspection,
            about,
            &mut self.all,
            piece,
            &mut self.told,
        )
    }
}

/// Looks at a text that has passed.
fn passed(
    inspection: &Inspection,
    about: &About<'_>,
    window: &mut Window,
    told: &mut Told,
) -> Result<(), Denial> {
    let mut scan: Scan = inspection.scan(about, &window.text);
    window.done();
    // Nothing can be taken out any more.
    scan.redactions.clear();
    if scan.response == Response::Redact {
        scan.response = Response::Report;
    }
    match inspection.judged(about, scan, |finding| told.is_new(finding), |_| ()) {
        Verdict::Pass | Verdict::Redacted(()) => Ok(()),
        Verdict::Blocked(denial) => Err(denial),
    }
}

/// Looks at the end of what came before, together with the beginning of a piece that was looked at.
fn seam(
    inspection: &Inspection,
    about: &About<'_>,
    window: &mut Window,
    piece: &str,
    told: &mut Told,
) -> Result<(), Denial> {
    let first = &piece[..piece.floor_char_boundary(OVERLAP)];
    let goes_on = !window.text.is_empty();
    window.text.push_str(first);
    if goes_on {
        passed(inspection, about, window, told)?;
    }
    if first.len() < piece.len() {
        window.text.clear();
        window.text.push_str(end_of(piece));
    }
    window.done();
    Ok(())
}

#[cfg(test)]
mod tests;
