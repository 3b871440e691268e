//! What actions use up besides their number.

use serde::{Deserialize, Serialize};

/// Amounts that were used up, or may be. Additions saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Tokens of models, read and written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: u64,
    /// Money, in millionths of a US dollar.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub micro_usd: u64,
    /// Rows that a database returned or changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// Bytes of answers and of tunnels, where the enforcement point counts them against the budget.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

// serde hands over references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(amount: &u64) -> bool {
    *amount == 0
}

impl Spent {
    /// Whether nothing is.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What is left of this when the other is taken away; never below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    fn with(self, other: Self, each: fn(u64, u64) -> u64) -> Self {
        Self {
            tokens: each(self.tokens, other.tokens),
            micro_usd: each(self.micro_usd, other.micro_usd),
            rows: each(self.rows, other.rows),
            bytes: each(self.bytes, other.bytes),
        }
    }
}
