//! The models on sale.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Keccak256};

use crate::Rates;

/// The models on sale with their rates, and other names for them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PriceTable {
    models: BTreeMap<String, Rates>,
    aliases: BTreeMap<String, String>,
}

/// A model of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listing<'a> {
    /// Its own name, whatever alias was asked for.
    pub model: &'a str,
    /// Its rates.
    pub rates: &'a Rates,
}

/// Why a table cannot be as it was configured. The operator is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A name is empty or longer than 256 bytes.
    #[error("a model's name must have 1 to 256 bytes")]
    Name,
    /// A name is there twice, as a model or as an alias.
    #[error("the name {0:?} is there twice; give each model and each alias a name of its own")]
    Duplicate(String),
    /// An alias of a model that is not in the table.
    #[error("the alias {alias:?} is for {model:?}, which is not in the table; add the model first")]
    UnknownModel {
        /// The alias.
        alias: String,
        /// The model that it names.
        model: String,
    },
}

impl PriceTable {
    /// A table without models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a model.
    ///
    /// # Errors
    /// [`TableError::Name`], [`TableError::Duplicate`].
    pub fn insert(&mut self, model: impl Into<String>, rates: Rates) -> Result<(), TableError> {
        let model = self.unused(model.into())?;
        self.models.insert(model, rates);
        Ok(())
    }

    /// Adds another name of a model.
    ///
    /// # Errors
    /// Every variant of [`TableError`].
    pub fn alias(&mut self, alias: impl Into<String>, model: &str) -> Result<(), TableError> {
        let alias = self.unused(alias.into())?;
        if !self.models.contains_key(model) {
            return Err(TableError::UnknownModel {
                alias,
                model: model.into(),
            });
        }
        self.aliases.insert(alias, model.into());
        Ok(())
    }

    /// The model of this name or alias.
    pub fn lookup(&self, name: &str) -> Option<Listing<'_>> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.models
            .get_key_value(name)
            .map(|(model, rates)| Listing { model, rates })
    }

    /// The models, by name.
    pub fn models(&self) -> impl Iterator<Item = Listing<'_>> {
        self.models
            .iter()
            .map(|(model, rates)| Listing { model, rates })
    }

    /// The aliases with the models that they name, by alias.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases
            .iter()
            .map(|(alias, model)| (alias.as_str(), model.as_str()))
    }

    /// How many models there are.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether there is no model.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// A digest of all names and prices (Keccak-256), the same for the same table in every process and version: what
    /// a receipt names so that a payer can compute the charge again.
    pub fn version(&self) -> B256 {
        let mut digest = Keccak256::new();
        digest.update(b"tollgate price table 1\n");
        // Each name is led by its length, so that no two tables write the same bytes.
        let text = |digest: &mut Keccak256, text: &str| {
            digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(text);
        };
        for (model, rates) in &self.models {
            digest.update(b"m");
            text(&mut digest, model);
            digest.update(rates.input.units().to_be_bytes());
            digest.update(rates.output.units().to_be_bytes());
            match rates.cached_input {
                Some(price) => {
                    digest.update([1]);
                    digest.update(price.units().to_be_bytes());
                }
                None => digest.update([0]),
            }
            digest.update(rates.per_request.to_be_bytes());
        }
        for (alias, model) in &self.aliases {
            digest.update(b"a");
            text(&mut digest, alias);
            text(&mut digest, model);
        }
        digest.finalize()
    }

    fn unused(&self, name: String) -> Result<String, TableError> {
        if name.is_empty() || name.len() > 256 {
            return Err(TableError::Name);
        }
        if self.models.contains_key(&name) || self.aliases.contains_key(&name) {
            return Err(TableError::Duplicate(name));
        }
        Ok(name)
    }
}
