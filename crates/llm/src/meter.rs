//! What a request uses up: an upper bound before, what the provider reports after, and what passed by
//! in bytes where it reports nothing.
//!
//! Tokenizers of byte pairs never make more tokens than there are bytes, so bytes are an upper bound.
//! And hardly any token stands for more than 32 bytes, so that is what a stream has used at least,
//! whatever the provider says.

use model::Spent;
use model::config::Price;
use serde_json::Value;

/// Bytes that a token stands for at most, as a rule.
const BYTES_OF_A_TOKEN: u64 = 32;

/// Tokens, told apart by what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read, and neither from nor into a cache.
    pub input: u64,
    /// Read from a cache.
    pub cache_read: u64,
    /// Read and put into a cache.
    pub cache_write: u64,
    /// Written.
    pub output: u64,
}

impl Tokens {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
            .saturating_add(self.output)
    }

    /// Reads the `usage` of an answer of either surface. `None` when it is not one, or has a count
    /// that is none, such as a negative one.
    #[must_use]
    pub fn of_usage(usage: &Value) -> Option<Self> {
        let usage = usage.as_object()?;
        let count = |name: &str| match usage.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(()),
        };
        let cached = |details: &str| {
            let details = usage.get(details)?.as_object()?;
            details.get("cached_tokens")?.as_u64()
        };
        if let Some(prompt) = count("prompt_tokens").ok()? {
            // Reasoning that is reported in the total only was written all the same.
            let total = count("total_tokens").ok()?.unwrap_or(0);
            let output = count("completion_tokens").ok()?.unwrap_or(0);
            let cache_read = cached("prompt_tokens_details").unwrap_or(0).min(prompt);
            return Some(Self {
                input: prompt - cache_read,
                cache_read,
                cache_write: 0,
                output: output.max(total.saturating_sub(prompt)),
            });
        }
        let input = count("input_tokens").ok()?;
        let output = count("output_tokens").ok()?;
        if input.is_none() && output.is_none() {
            return None;
        }
        let input = input.unwrap_or(0);
        let inclusive = cached("input_tokens_details").unwrap_or(0).min(input);
        let cache_read = count("cache_read_input_tokens").ok()?.unwrap_or(0);
        Some(Self {
            input: input - inclusive,
            cache_read: cache_read.saturating_add(inclusive),
            cache_write: count("cache_creation_input_tokens").ok()?.unwrap_or(0),
            output: output.unwrap_or(0),
        })
    }

    /// The larger count of each kind: usage in streams is reported in parts, and cumulative.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            output: self.output.max(other.output),
        }
    }

    /// What they use up of a budget, at a price.
    #[must_use]
    pub fn spent(self, price: Option<&Price>) -> Spent {
        let micro_usd = price.map_or(0, |price| {
            let read = price
                .cache_read_usd_per_million
                .unwrap_or(price.input_usd_per_million);
            let costs = [
                price.input_usd_per_million.per_million(self.input),
                read.per_million(self.cache_read),
                write_price(price).per_million(self.cache_write),
                price.output_usd_per_million.per_million(self.output),
            ];
            costs.into_iter().fold(0, u64::saturating_add)
        });
        Spent {
            tokens: self.total(),
            micro_usd,
            ..Spent::default()
        }
    }
}

/// Whether a `usage` that can be read has a count of what was written.
fn says_what_was_written(usage: &Value) -> bool {
    let counts = ["completion_tokens", "output_tokens", "total_tokens"];
    counts
        .iter()
        .any(|name| usage.get(*name).is_some_and(Value::is_u64))
}

fn write_price(price: &Price) -> model::money::Usd {
    price.cache_write_usd_per_million.unwrap_or_else(|| {
        let input = price.input_usd_per_million.micro();
        model::money::Usd::of_micro(input.saturating_mul(2))
    })
}

/// What a request may use up at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Tokens that are read.
    pub input: u64,
    /// Tokens that are written.
    pub output: u64,
    /// Bytes of text that is read: as many tokens as that is at least are used, whatever is reported.
    pub text: u64,
}

impl Bound {
    /// As an amount of a budget, at a price: as if all that is read went into the cache, when that
    /// costs more.
    #[must_use]
    pub fn spent(self, price: Option<&Price>) -> Spent {
        let plain = Tokens {
            input: self.input,
            output: self.output,
            ..Tokens::default()
        };
        let cached = Tokens {
            input: 0,
            cache_write: self.input,
            ..plain
        };
        let (plain, cached) = (plain.spent(price), cached.spent(price));
        if cached.micro_usd > plain.micro_usd {
            cached
        } else {
            plain
        }
    }
}

/// Counts one answer while it passes.
#[derive(Debug)]
pub struct Meter {
    price: Option<Price>,
    bound: Bound,
    reported: Option<Tokens>,
    /// Whether the report is the last one.
    complete: bool,
    /// Bytes of what the model wrote.
    bytes: u64,
    /// Pieces in which it came.
    pieces: u64,
    told: Spent,
}

impl Meter {
    /// Begins to count an answer.
    #[must_use]
    pub fn new(price: Option<Price>, bound: Bound) -> Self {
        Self {
            price,
            bound,
            reported: None,
            complete: false,
            bytes: 0,
            pieces: 0,
            told: Spent::default(),
        }
    }

    /// Takes in a piece of what the model wrote, by its length in bytes.
    pub fn wrote(&mut self, bytes: usize) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes as u64);
            self.pieces = self.pieces.saturating_add(1);
        }
    }

    /// Takes in what the provider reports; `complete` when it is about the whole answer. What does not say
    /// how much was written is not complete.
    pub fn reports(&mut self, usage: &Value, complete: bool) {
        if let Some(tokens) = Tokens::of_usage(usage) {
            self.reported = Some(self.reported.unwrap_or_default().most(tokens));
            self.complete |= complete && says_what_was_written(usage);
        }
    }

    /// What it has certainly used and was not told before: for streams that run.
    pub fn so_far(&mut self) -> Spent {
        let mut tokens = self.reported.unwrap_or_default();
        tokens.output = tokens.output.max(self.least());
        self.tell(tokens)
    }

    /// The rest, when the answer has ended: as reported, but never less than what passed by; or, where
    /// that was not reported, everything that it may have been.
    pub fn rest(&mut self) -> Spent {
        let mut tokens = self.reported.unwrap_or_default();
        let seen = if self.complete {
            self.least()
        } else {
            self.bytes
        };
        tokens.output = tokens.output.max(seen);
        let cached = tokens.cache_read.saturating_add(tokens.cache_write);
        if tokens.input == 0 && cached == 0 {
            tokens.input = self.bound.input;
        }
        let least = self.bound.text / BYTES_OF_A_TOKEN;
        tokens.input = tokens.input.max(least.saturating_sub(cached));
        self.tell(tokens)
    }

    /// Everything that it may have used, when nothing of the answer was seen.
    pub fn all(&mut self) -> Spent {
        let now = self.bound.spent(self.price.as_ref());
        let more = now.minus(self.told);
        self.told = self.told.plus(more);
        more
    }

    /// What the provider reports so far.
    #[must_use]
    pub fn reported(&self) -> Option<Tokens> {
        self.reported
    }

    fn least(&self) -> u64 {
        // Providers that cut tokens into pieces cut them into two at most, as a rule.
        (self.pieces / 2).max(self.bytes / BYTES_OF_A_TOKEN)
    }

    fn tell(&mut self, tokens: Tokens) -> Spent {
        let now = tokens.spent(self.price.as_ref());
        let more = now.minus(self.told);
        self.told = self.told.plus(more);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::money::Usd;
    use proptest::prelude::*;
    use serde_json::json;

    fn price() -> Price {
        Price {
            input_usd_per_million: Usd::of_micro(3_000_000),
            output_usd_per_million: Usd::of_micro(15_000_000),
            cache_read_usd_per_million: Some(Usd::of_micro(300_000)),
            cache_write_usd_per_million: None,
        }
    }

    #[test]
    fn both_surfaces_report_the_same_things_in_their_own_words() {
        let of = |usage| Tokens::of_usage(&usage);
        let chat = json!({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 40}});
        let expected = Tokens {
            input: 60,
            cache_read: 40,
            cache_write: 0,
            output: 20,
        };
        assert_eq!(of(chat), Some(expected));
        let responses = json!({"input_tokens": 100, "output_tokens": 20,
            "input_tokens_details": {"cached_tokens": 40}});
        assert_eq!(of(responses), Some(expected));
        let messages = json!({"input_tokens": 60, "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": null, "output_tokens": 20});
        assert_eq!(of(messages), Some(expected));
    }

    #[test]
    fn lies_are_not_taken_for_usage() {
        for bad in [
            json!({"prompt_tokens": -5, "completion_tokens": 1}),
            json!({"prompt_tokens": 5, "completion_tokens": 1.5}),
            json!({"input_tokens": "7"}),
            json!({"input_tokens": 7, "output_tokens": -7}),
            json!({}),
            json!(null),
            json!([1, 2]),
        ] {
            assert_eq!(Tokens::of_usage(&bad), None, "{bad}");
        }
        let mut meter = Meter::new(
            None,
            Bound {
                input: 50,
                output: 10,
                text: 0,
            },
        );
        meter.wrote(6_400);
        meter.reports(&json!({"prompt_tokens": 5, "completion_tokens": 0}), true);
        assert_eq!(meter.rest().tokens, 5 + 200, "what passed by was used");
    }

    #[test]
    fn lies_fail_closed() {
        // 3,200 bytes are read, which are 100 tokens at least; 640 are written.
        let bound = Bound {
            input: 4_000,
            output: 500,
            text: 3_200,
        };
        let spent = |usages: &[Value]| {
            let mut meter = Meter::new(Some(price()), bound);
            meter.wrote(640);
            for usage in usages {
                meter.reports(usage, true);
            }
            meter.rest()
        };
        let unreported = spent(&[]);
        assert_eq!(unreported.tokens, 4_000 + 640);
        // What cannot be read is no report: negative, floating, too large, in words, or of another kind.
        for bad in [
            json!({"prompt_tokens": -1, "completion_tokens": 1}),
            json!({"prompt_tokens": 1, "completion_tokens": -1, "total_tokens": 0}),
            json!({"prompt_tokens": 1.0, "completion_tokens": 1.0}),
            json!({"prompt_tokens": 1e300, "completion_tokens": 1}),
            json!({"prompt_tokens": "1", "completion_tokens": "1"}),
            json!({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": -5}),
            json!({"input_tokens": [1], "output_tokens": {}}),
            json!(true),
        ] {
            assert_eq!(spent(std::slice::from_ref(&bad)), unreported, "{bad}");
        }
        // What says little is held to what passed by.
        assert_eq!(
            spent(&[json!({"prompt_tokens": 1, "completion_tokens": 0})]).tokens,
            120
        );
        assert_eq!(spent(&[json!({"prompt_tokens": 1})]).tokens, 100 + 640);
        assert_eq!(spent(&[json!({"input_tokens": 1})]).tokens, 100 + 640);
        // What is read from a cache is cheaper, but not less.
        let cached = spent(&[json!({"input_tokens": 0, "cache_read_input_tokens": 60,
            "output_tokens": 20})]);
        assert_eq!(cached.tokens, 60 + 40 + 20);
        assert_eq!(cached.micro_usd, 18 + 120 + 300);
        let lie = json!({"prompt_tokens": 200, "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": -7}});
        assert_eq!(spent(&[lie]).micro_usd, 600 + 300);
        // A lie does not take back what was said before, and too much is too much.
        let before = json!({"prompt_tokens": 300, "completion_tokens": 50});
        let after = json!({"prompt_tokens": 0, "completion_tokens": 0});
        assert_eq!(spent(&[before, after]).tokens, 350);
        let huge = spent(&[json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX})]);
        assert_eq!(huge.tokens, u64::MAX);
        assert!(huge.micro_usd > u64::MAX / 1_000_000);
    }

    #[test]
    fn without_a_report_bytes_count() {
        let mut meter = Meter::new(
            Some(price()),
            Bound {
                input: 1_000,
                output: 100,
                text: 0,
            },
        );
        for _ in 0..10 {
            meter.wrote(4);
        }
        let so_far = meter.so_far();
        assert_eq!(so_far.tokens, 5);
        let rest = meter.rest();
        assert_eq!(so_far.plus(rest).tokens, 1_040);
        assert_eq!(so_far.plus(rest).micro_usd, 3_000 + 600);
        assert!(meter.rest().is_nothing(), "told once");
    }

    #[test]
    fn a_stream_that_breaks_off_counts_what_came() {
        let mut meter = Meter::new(
            None,
            Bound {
                input: 1_000,
                output: 100,
                text: 0,
            },
        );
        meter.reports(&json!({"input_tokens": 12, "output_tokens": 1}), false);
        meter.wrote(30);
        assert_eq!(meter.rest().tokens, 12 + 30);
    }

    #[test]
    fn caches_cost_what_they_cost() {
        let tokens = Tokens {
            input: 0,
            cache_read: 1_000_000,
            cache_write: 1_000_000,
            output: 0,
        };
        assert_eq!(tokens.spent(Some(&price())).micro_usd, 300_000 + 6_000_000);
        let bound = Bound {
            input: 10,
            output: 10,
            text: 0,
        }
        .spent(Some(&price()));
        assert_eq!(bound.micro_usd, 60 + 150);
        assert_eq!(bound.tokens, 20);
    }

    proptest! {
        #[test]
        fn what_is_told_only_grows_and_never_panics(
            pieces in proptest::collection::vec(0usize..100_000, 0..20),
            input in any::<u64>(), output in any::<u64>(), text in any::<u64>(),
            complete in any::<bool>(),
        ) {
            let mut meter = Meter::new(Some(price()), Bound { input, output, text });
            let mut told = Spent::default();
            for piece in pieces {
                meter.wrote(piece);
                told = told.plus(meter.so_far());
            }
            meter.reports(&json!({"prompt_tokens": input, "completion_tokens": output}), complete);
            let all = told.plus(meter.rest());
            prop_assert!(all.tokens >= told.tokens && all.tokens >= output.min(u64::MAX - input));
        }
    }
}
