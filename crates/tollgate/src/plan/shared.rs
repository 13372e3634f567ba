//! Where payments are kept: a file of one gateway, or a database of several.

use std::path::PathBuf;

use tollgate_x402::B256;

use crate::config::{ConfigError, LedgerSection, Source};

/// Where payments are kept.
#[derive(Debug)]
pub(crate) struct LedgerPlan {
    /// The SQLite file.
    pub(crate) path: PathBuf,
    /// The id of a new one; random if none.
    pub(crate) id: Option<B256>,
    /// Instead of the file: the database of several gateways.
    pub(crate) shared: Option<SharedPlan>,
}

impl LedgerPlan {
    /// How many gateways divide the bound on what is unsettled.
    pub(crate) fn gateways(&self) -> u32 {
        self.shared.as_ref().map_or(1, |shared| shared.gateways)
    }
}

/// A database that several gateways share.
#[derive(Debug)]
pub(crate) struct SharedPlan {
    pub(crate) url: UrlSource,
    pub(crate) schema: String,
    pub(crate) gateways: u32,
}

/// Where a URL is read from that may hold a password.
#[derive(Debug)]
pub(crate) enum UrlSource {
    Variable(String),
    File(PathBuf),
}

/// The ledger of a configuration.
pub(crate) fn ledger(section: &LedgerSection, source: &Source) -> Result<LedgerPlan, ConfigError> {
    let id = match &section.id {
        None => None,
        Some(id) => Some(id.get_ref().parse::<B256>().map_err(|_| {
            source.at(
                "ledger.id",
                id,
                "write the id as 0x and 64 hexadecimal digits, as your Settler has it",
            )
        })?),
    };
    Ok(LedgerPlan {
        path: section.path.clone(),
        id,
        shared: shared(section, source)?,
    })
}

/// The database of several gateways, if there is one.
fn shared(section: &LedgerSection, source: &Source) -> Result<Option<SharedPlan>, ConfigError> {
    let Some(postgres) = &section.postgres else {
        return Ok(None);
    };
    let gateways = *postgres.gateways.get_ref();
    if gateways == 0 {
        let message = "at least 1: how many gateways may run at once";
        return Err(source.at("ledger.postgres.gateways", &postgres.gateways, message));
    }
    let url = match (&postgres.url, &postgres.url_file) {
        (Some(url), None) => match url.get_ref().strip_prefix('$') {
            Some(name) => UrlSource::Variable(name.to_owned()),
            None => {
                let message = "write the URL as \"$NAME\" and put it into that environment variable, since it may hold a \
                     password; or name a file by url_file";
                return Err(source.at("ledger.postgres.url", url, message));
            }
        },
        (None, Some(file)) => UrlSource::File(file.get_ref().clone()),
        _ => {
            let message =
                "name the database by one of ledger.postgres.url and ledger.postgres.url_file";
            return Err(source.at("ledger.postgres", &postgres.gateways, message));
        }
    };
    Ok(Some(SharedPlan {
        url,
        schema: postgres.schema.get_ref().clone(),
        gateways,
    }))
}
