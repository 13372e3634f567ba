//! Whose configuration an operator names: a gateway's or a facilitator's.

use std::collections::BTreeMap;

use toml::Spanned;

use crate::config::{ConfigError, Source};

/// Whose configuration a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    /// A gateway's: what is settled is paid to its seller.
    Gateway,
    /// A facilitator's: each payment pays whom its payer signed for.
    Facilitator,
}

impl Whose {
    /// What a file is by its shape: each kind has keys that the other has not.
    pub(super) fn of(source: &Source) -> Result<Self, ConfigError> {
        const OF_A_GATEWAY: [&str; 3] = ["seller", "model", "public_url"];
        const OF_A_FACILITATOR: [&str; 3] = ["caller", "operator_key", "wait_seconds"];
        let keys: BTreeMap<Spanned<String>, toml::Value> = source.parse_as()?;
        let first = |of: [&str; 3]| {
            let mut found = keys
                .keys()
                .filter(|key| of.contains(&key.get_ref().as_str()));
            found.next()
        };
        match (first(OF_A_GATEWAY), first(OF_A_FACILITATOR)) {
            (Some(_), None) => Ok(Self::Gateway),
            (None, Some(_)) => Ok(Self::Facilitator),
            (Some(one), Some(other)) => Err(source.at(
                other.get_ref(),
                other,
                format_args!(
                    "this is of a facilitator's file, and {} of a gateway's: keep them apart",
                    one.get_ref()
                ),
            )),
            (None, None) => Err(source.error(
                "seller",
                &(0..0),
                "this is neither a gateway's file, which has [seller], nor a facilitator's, which has operator_key and [[caller]]",
            )),
        }
    }

    /// Its program, for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Facilitator => "facilitator",
        }
    }

    /// The command that runs it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::Gateway => "tollgate serve",
            Self::Facilitator => "tollgate facilitator",
        }
    }

    /// The configuration's key of the account that settles.
    pub(crate) const fn operator_key(self) -> &'static str {
        match self {
            Self::Gateway => "seller.operator_key",
            Self::Facilitator => "operator_key",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_file_is_is_told_by_its_keys_and_a_mixture_by_its_line() {
        let whose =
            |text: &str| Whose::of(&Source::new("x.toml", text)).map_err(|error| error.to_string());
        assert_eq!(
            whose("listen = \"\"\n[seller]\n[[model]]"),
            Ok(Whose::Gateway)
        );
        assert_eq!(
            whose("operator_key = \"$K\"\n[[caller]]"),
            Ok(Whose::Facilitator)
        );
        let both = whose("[seller]\n\n[[caller]]\n").unwrap_err();
        assert!(both.starts_with("x.toml:3: caller: "), "{both}");
        let none = whose("[chain]\n").unwrap_err();
        assert!(
            none.contains("x.toml:1") && none.contains("neither"),
            "{none}"
        );
        assert!(whose("[chain\n").unwrap_err().contains("x.toml:1"));
    }
}
