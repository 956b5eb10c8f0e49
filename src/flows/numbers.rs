//! Which number, which WABA, which token: the configured accounts as the flows see them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use secrecy::{ExposeSecret, SecretString};

use crate::cloud_api::signature::{Rejection, SignatureKeys};
use crate::domain::ids::{AppId, PhoneNumberId, WabaId};
use crate::domain::quoted::id_shown;
use crate::domain::rights::{Forbidden, Rights};
use crate::tenants::{Snapshot, Tenants, TokenHash, Waba};

/// The configured numbers, WABAs and app secrets of this moment.
#[derive(Debug, Clone)]
pub struct Numbers {
    tenants: Tenants,
    /// The keys of the snapshot beside them: preparing a key costs as much as verifying a small body.
    keys: Arc<ArcSwapOption<(Arc<Snapshot>, SignatureKeys)>>,
}

/// Why a number or WABA cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None was named and there is not exactly one.
    #[error("is required, since {} are configured: {}", usable.len(), usable.join(", "))]
    Ambiguous {
        /// The field to fill.
        field: &'static str,
        /// What could stand there: those that the caller may use.
        usable: Vec<String>,
    },
    /// The caller may not use it, whether it exists or not.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// This gateway does not know the number.
    #[error("phone number id {} is not configured on this gateway", id_shown(.0))]
    NumberNotConfigured(String),
    /// This gateway does not know the WABA.
    #[error("WABA {} is not configured on this gateway", id_shown(.0))]
    WabaNotConfigured(String),
}

impl Numbers {
    /// Follows these tenants.
    pub fn new(tenants: Tenants) -> Self {
        Self { tenants, keys: Arc::new(ArcSwapOption::empty()) }
    }

    /// The number that a request means: the one it names, or the only one that its caller may use.
    pub fn resolve(&self, named: &str, rights: &Rights) -> Result<PhoneNumberId, Error> {
        let snapshot = self.tenants.load();
        let usable = snapshot.numbers().map(|id| &**id).filter(|id| rights.may_use_number(id)).collect();
        let id = meant(named, usable, "phone_number_id")?;
        if !rights.may_use_number(&id) {
            return Err(Forbidden {
                named: format!("phone number id {}", id_shown(&id)),
                list: "phone_numbers",
            }
            .into());
        }
        let not_configured = || Error::NumberNotConfigured(id.clone());
        snapshot.number(&id).ok_or_else(not_configured)?;
        PhoneNumberId::parse(&id).map_err(|_| not_configured())
    }

    /// The WABA that a request means: the one it names, or the only one that its caller may use.
    pub fn resolve_waba(&self, named: &str, rights: &Rights) -> Result<WabaId, Error> {
        let snapshot = self.tenants.load();
        let ids = snapshot.wabas().iter().map(|waba| &*waba.id);
        let id = meant(named, ids.filter(|id| rights.may_use_waba(id)).collect(), "waba_id")?;
        if !rights.may_use_waba(&id) {
            return Err(Forbidden { named: format!("WABA {}", id_shown(&id)), list: "wabas" }.into());
        }
        let not_configured = || Error::WabaNotConfigured(id.clone());
        snapshot.waba(&id).ok_or_else(not_configured)?;
        WabaId::parse(&id).map_err(|_| not_configured())
    }

    /// Whether this number is configured.
    pub fn has_number(&self, id: &str) -> bool {
        self.tenants.load().number(id).is_some()
    }

    /// Whether this WABA is configured.
    pub fn has_waba(&self, id: &str) -> bool {
        self.tenants.load().waba(id).is_some()
    }

    /// The access token for calls of this number.
    pub(super) fn access_token(&self, number: &PhoneNumberId) -> Result<SecretString, Error> {
        let snapshot = self.tenants.load();
        let waba = snapshot.number(number.as_str());
        let waba = waba.ok_or_else(|| Error::NumberNotConfigured(number.to_string()))?;
        Ok(waba.access_token.clone())
    }

    /// The access token for calls of this WABA.
    pub(super) fn waba_access_token(&self, waba: &WabaId) -> Result<SecretString, Error> {
        let snapshot = self.tenants.load();
        let waba = snapshot.waba(waba.as_str()).ok_or_else(|| Error::WabaNotConfigured(waba.to_string()))?;
        Ok(waba.access_token.clone())
    }

    /// The WABA of this number; empty if the number is not configured.
    pub(super) fn waba_of(&self, number: &PhoneNumberId) -> String {
        self.tenants.load().number(number.as_str()).map(|waba| waba.id.to_string()).unwrap_or_default()
    }

    /// The configured numbers of the accounts that are meant.
    pub(super) fn of_wabas(&self, is_meant: impl Fn(&Waba) -> bool) -> Vec<PhoneNumberId> {
        let snapshot = self.tenants.load();
        let meant = snapshot.wabas().iter().filter(|waba| is_meant(waba));
        // The configuration holds digits only, so that the ids always parse.
        meant.flat_map(|waba| &waba.phone_number_ids).filter_map(|id| PhoneNumberId::parse(id).ok()).collect()
    }

    /// The accounts with their access tokens, and the secrets of the app that each token belongs to.
    pub(super) fn tokens(&self) -> Vec<(Arc<Waba>, Vec<SecretString>)> {
        let snapshot = self.tenants.load();
        let of_app = |waba: &Arc<Waba>| {
            let app = snapshot.apps().iter().find(|app| app.id == waba.app_id);
            (Arc::clone(waba), app.map(|app| app.secrets.clone()).unwrap_or_default())
        };
        snapshot.wabas().iter().map(of_app).collect()
    }

    /// The account of this number as configured; `None` if the number is not.
    pub(super) fn waba(&self, number: &PhoneNumberId) -> Option<Arc<Waba>> {
        self.tenants.load().number(number.as_str()).cloned()
    }

    /// What tells the access token of this number from another; `None` if the number is not configured.
    pub(super) fn token_hash(&self, number: &PhoneNumberId) -> Option<TokenHash> {
        self.waba(number).map(|waba| TokenHash::of(waba.access_token.expose_secret()))
    }

    /// The access token of this WABA, and the app that it belongs to.
    pub(super) fn waba_app(&self, waba: &WabaId) -> Result<(SecretString, AppId), Error> {
        let snapshot = self.tenants.load();
        let not_configured = || Error::WabaNotConfigured(waba.to_string());
        let found = snapshot.waba(waba.as_str()).ok_or_else(not_configured)?;
        // The configuration holds digits only, so that the id always parses.
        let app = AppId::parse(&found.app_id).map_err(|_| not_configured())?;
        Ok((found.access_token.clone(), app))
    }

    /// Whether the text is the verify token of an app.
    pub(super) fn is_verify_token(&self, candidate: &str) -> bool {
        self.tenants.load().verify_token_matches(candidate)
    }

    /// Whether any live app secret signed the body.
    pub(super) fn verify_signature(&self, header: Option<&[u8]>, body: &[u8]) -> Result<(), Rejection> {
        let snapshot = self.tenants.load();
        if let Some(prepared) = self.keys.load().as_ref()
            && Arc::ptr_eq(&prepared.0, &snapshot)
        {
            return prepared.1.verify(header, body);
        }
        let keys = SignatureKeys::new(snapshot.app_secrets());
        let verified = keys.verify(header, body);
        self.keys.store(Some(Arc::new((snapshot, keys))));
        verified
    }
}

/// What is named, or the only one of those that may be used. Where there is none, `named` is for the caller's rights to
/// refuse.
fn meant(named: &str, usable: Vec<&str>, field: &'static str) -> Result<String, Error> {
    match (named, usable.as_slice()) {
        ("", [only]) => Ok((*only).to_owned()),
        ("", [_, _, ..]) => {
            Err(Error::Ambiguous { field, usable: usable.into_iter().map(str::to_owned).collect() })
        }
        (named, _) => Ok(named.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_repeated_only_if_it_is_an_id() {
        let number = |id: &str| Error::NumberNotConfigured(id.to_owned()).to_string();
        assert!(number("777").contains("id 777 is not configured"), "{}", number("777"));
        let waba = Error::WabaNotConfigured("+15558675309".to_owned()).to_string();
        for text in [number("call +15558675309"), waba] {
            assert!(text.contains("<a text of 1") && !text.contains("1555"), "{text}");
        }
    }
}
