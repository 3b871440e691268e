//! Money as people write it, read exactly: no amount passes through binary fractions.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of US dollars with at most six decimals, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

/// Why a text is no amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an amount of US dollars is written like `0.5` or `\"12.25\"`: not negative, and with at most six decimals"
)]
pub struct NoAmount;

impl Usd {
    /// Decimals that are kept.
    const DECIMALS: usize = 6;

    /// An amount of so many millionths.
    #[must_use]
    pub const fn of_micro(micro: u64) -> Self {
        Self(micro)
    }

    /// The amount in millionths of a dollar.
    #[must_use]
    pub const fn micro(self) -> u64 {
        self.0
    }

    /// Reads digits, with at most six of them behind a point.
    ///
    /// # Errors
    /// [`NoAmount`] for anything else, and for what is more than fits.
    pub fn parse(text: &str) -> Result<Self, NoAmount> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) {
            return Err(NoAmount);
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > Self::DECIMALS {
            return Err(NoAmount);
        }
        let fraction = format!("{decimals:0<width$}", width = Self::DECIMALS);
        let whole: u64 = whole.parse().map_err(|_| NoAmount)?;
        let fraction: u64 = fraction.parse().map_err(|_| NoAmount)?;
        whole
            .checked_mul(1_000_000)
            .and_then(|micro| micro.checked_add(fraction))
            .map(Self)
            .ok_or(NoAmount)
    }

    /// What so many things cost when a million of them cost this, in millionths of a dollar, rounded
    /// up; saturates.
    #[must_use]
    pub fn per_million(self, count: u64) -> u64 {
        let product = u128::from(self.0) * u128::from(count);
        u64::try_from(product.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let text = format!("{whole}.{fraction:06}");
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl de::Visitor<'_> for Amount {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of US dollars, such as 0.5 or \"12.25\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                Usd::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, dollars: u64) -> Result<Usd, E> {
                self.visit_str(&dollars.to_string())
            }
            fn visit_i64<E: de::Error>(self, dollars: i64) -> Result<Usd, E> {
                self.visit_str(&dollars.to_string())
            }
            // The shortest decimal text that reads as this number is the one that was written.
            fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Usd, E> {
                self.visit_str(&dollars.to_string())
            }
        }

        deserializer.deserialize_any(Amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, micro) in [
            ("0", 0),
            ("0.5", 500_000),
            ("0.1", 100_000),
            ("12.25", 12_250_000),
            ("0.000001", 1),
            ("1.50000000", 1_500_000),
        ] {
            assert_eq!(Usd::parse(text), Ok(Usd::of_micro(micro)), "{text}");
        }
        let huge = "9".repeat(20);
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "0.0000001",
            "NaN",
            " 1",
            &huge,
        ] {
            assert_eq!(Usd::parse(bad), Err(NoAmount), "{bad:?}");
        }
    }

    #[test]
    fn numbers_of_a_file_mean_what_they_say() {
        #[derive(Deserialize)]
        struct File {
            usd: Usd,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.usd.micro());
        assert_eq!(read("usd = 0.1").unwrap(), 100_000);
        assert_eq!(read("usd = 0.29").unwrap(), 290_000);
        assert_eq!(read("usd = 3").unwrap(), 3_000_000);
        assert_eq!(read("usd = \"0.000007\"").unwrap(), 7);
        for bad in [
            "usd = -0.5",
            "usd = nan",
            "usd = inf",
            "usd = 1e-9",
            "usd = true",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn costs_are_rounded_up_and_never_wrap() {
        let price = Usd::parse("0.15").unwrap();
        assert_eq!(price.per_million(1_000_000), 150_000);
        assert_eq!(price.per_million(1), 1);
        assert_eq!(price.per_million(0), 0);
        assert_eq!(Usd::of_micro(u64::MAX).per_million(u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(micro in any::<u64>()) {
            let amount = Usd::of_micro(micro);
            prop_assert_eq!(Usd::parse(&amount.to_string()), Ok(amount));
        }
    }
}
