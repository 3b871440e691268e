//! How many producers are worth waiting for before a group is written.
//!
//! A sync costs the same for one record as for fifty, so where many wait, those of the group before are given
//! a moment to come back. Where few wait, that moment costs more than it saves: while one group is synced, the
//! next one gathers by itself.

/// Fewer than this many are not made to wait for each other.
const LEAST: usize = 3;
/// How many groups pass, once they have stopped growing, until one is given the chance to grow again.
const SETTLED: u32 = 16;

/// Who is expected to wait for the next group.
#[derive(Debug, Default)]
pub(crate) struct Company {
    expected: usize,
    /// How many groups are still to pass before one may grow.
    settled: u32,
}

impl Company {
    /// With how many waiters the next group is complete; 0 when nobody is waited for.
    pub(crate) fn wanted(&self) -> usize {
        match (self.expected, self.settled) {
            (expected, _) if expected < LEAST => 0,
            (expected, 0) => expected + expected.div_ceil(2),
            (expected, _) => expected,
        }
    }

    /// Takes note of how many waited for a group.
    pub(crate) fn came(&mut self, waiters: usize) {
        self.settled = match (waiters > self.expected, self.settled) {
            (true, _) => 0,
            (false, 0) => SETTLED,
            (false, left) => left - 1,
        };
        // A single small group does not mean that the others have gone.
        self.expected = waiters.max(self.expected - self.expected.div_ceil(4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_not_waited_for() {
        let mut company = Company::default();
        for waiters in [0, 1, 2, 1] {
            company.came(waiters);
            assert_eq!(company.wanted(), 0);
        }
        company.came(4);
        assert_eq!(company.wanted(), 6);
    }

    #[test]
    fn groups_grow_as_long_as_they_do_and_then_now_and_then() {
        let mut company = Company::default();
        // Sixty-four producers: as many as wanted come back, as far as there are so many.
        company.came(20);
        for _ in 0..10 {
            company.came(company.wanted().min(64));
        }
        assert_eq!(
            company.wanted(),
            64,
            "a full group is not waited for longer"
        );
        let mut grown = 0;
        for _ in 0..170 {
            grown += usize::from(company.wanted() > 64);
            company.came(64);
        }
        assert_eq!(grown, 10);
        // They have gone.
        for _ in 0..20 {
            company.came(1);
        }
        assert_eq!(company.wanted(), 0);
    }
}
