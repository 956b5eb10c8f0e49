//! `WhoAmI`.

use crate::contract::v1;

use super::callers::{Credential, Identity};

pub(super) fn answer(who: &Identity) -> v1::WhoAmIResponse {
    let (credential, token_id, expires) = match &who.credential {
        Credential::Loopback => (v1::CallerCredential::Loopback, "", None),
        Credential::None => (v1::CallerCredential::None, "", None),
        Credential::Certificate => (v1::CallerCredential::Certificate, "", None),
        Credential::Token { id, expires } => (v1::CallerCredential::Token, id.as_str(), *expires),
        Credential::Jwt { id, expires } => (v1::CallerCredential::Jwt, id.as_str(), Some(*expires)),
    };
    let rights = who.rights.as_ref().clone();
    v1::WhoAmIResponse {
        name: who.caller.name().to_owned(),
        credential: credential.into(),
        token_id: token_id.to_owned(),
        token_expire_time: expires.map(Into::into),
        rights: Some(v1::CallerRights {
            methods: rights.methods,
            phone_number_ids: rights.phone_numbers,
            waba_ids: rights.wabas,
            event_types: rights.event_types,
            sends_per_second: rights.sends_per_second,
            streams_max: rights.streams_max,
        }),
    }
}
