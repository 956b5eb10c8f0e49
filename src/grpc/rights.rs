//! What a caller may do, held against what it asks for: the method before the request is read, the number, WABA and action
//! right after it is decoded.
//!
//! Handlers get a number or WABA from here alone, so none can forget to ask. A method that is not in
//! [`METHODS`](crate::domain::rights::METHODS) never reaches its handler.

use std::sync::Arc;

use tonic::{Request, Status};
use tracing::error;

use crate::domain::ids::{PhoneNumberId, WabaId};
use crate::domain::quoted::id_shown;
use crate::domain::rights::Forbidden;
use crate::flows::numbers;

use super::callers::Identity;
use super::convert::Violations;
use super::measure;
use super::service::Service;
use super::status;

/// Whom the gate found to call.
pub(super) fn who<T>(request: &Request<T>) -> Result<&Arc<Identity>, Status> {
    request.extensions().get().ok_or_else(|| {
        error!("a call came past the gate");
        status::internal()
    })
}

/// Whether a path may be called at all; an action of it may still be refused.
pub(super) fn reach(who: &Identity, method: &'static str) -> Result<(), Forbidden> {
    let name = measure::short(method);
    if who.rights.may_reach(name) { Ok(()) } else { Err(forbidden(name)) }
}

/// Whether this action may be done.
pub(super) fn act(who: &Identity, method: &'static str) -> Result<(), Forbidden> {
    who.note(|facts| facts.method = Some(method));
    let name = measure::short(method);
    if who.rights.may_call(name) { Ok(()) } else { Err(forbidden(name)) }
}

/// Whether a WABA may be used that a request names beside its own.
pub(super) fn use_waba(who: &Identity, id: &str) -> Result<(), Forbidden> {
    let forbidden = || Forbidden { named: format!("WABA {}", id_shown(id)), list: "wabas" };
    // One that is missing is a violation of its own.
    if id.is_empty() || who.rights.may_use_waba(id) { Ok(()) } else { Err(forbidden()) }
}

fn forbidden(name: &str) -> Forbidden {
    Forbidden { named: name.to_owned(), list: "methods" }
}

impl Service {
    /// The business number that a field means. One that the caller may not use is refused, whatever else is wrong; a missing
    /// one joins the other violations.
    pub(super) fn number(
        &self,
        who: &Identity,
        (field, named): (&str, &str),
        found: &mut Violations,
    ) -> Result<Option<PhoneNumberId>, Status> {
        // Only an id that is configured: whatever else stands there may be somebody's phone number.
        let is_known = self.everywhere.numbers.has_number(named);
        who.note(|facts| facts.phone_number_id = is_known.then(|| named.to_owned()));
        let number = chosen(self.everywhere.numbers.resolve(named, &who.rights), field, found)?;
        if let Some(number) = &number {
            who.note(|facts| facts.phone_number_id = Some(number.to_string()));
        }
        Ok(number)
    }

    /// The WABA that a field means, likewise.
    pub(super) fn waba(
        &self,
        who: &Identity,
        (field, named): (&str, &str),
        found: &mut Violations,
    ) -> Result<Option<WabaId>, Status> {
        let is_known = self.everywhere.numbers.has_waba(named);
        who.note(|facts| facts.waba_id = is_known.then(|| named.to_owned()));
        let waba = chosen(self.everywhere.numbers.resolve_waba(named, &who.rights), field, found)?;
        if let Some(waba) = &waba {
            who.note(|facts| facts.waba_id = Some(waba.to_string()));
        }
        Ok(waba)
    }
}

fn chosen<T>(
    resolved: Result<T, numbers::Error>,
    field: &str,
    found: &mut Violations,
) -> Result<Option<T>, Status> {
    use numbers::Error as E;
    match resolved {
        Ok(chosen) => Ok(Some(chosen)),
        Err(ref error @ E::Ambiguous { .. }) => {
            found.add(field, error.to_string());
            Ok(None)
        }
        Err(E::NumberNotConfigured(_) | E::WabaNotConfigured(_)) if !found.is_empty() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use crate::contract::DESCRIPTORS;
    use crate::domain::rights::METHODS;

    use super::*;

    /// A new RPC or action fails here until somebody has said what it is about; until then the gate serves it to nobody.
    #[test]
    fn every_method_and_action_is_in_the_table_and_nothing_else() {
        let descriptors = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let ours = || descriptors.file.iter().filter(|file| file.package() == "whatsapp.gateway.v1");
        let message = |name: &str| -> &DescriptorProto {
            ours().flat_map(|file| &file.message_type).find(|message| message.name() == name).unwrap()
        };
        let actions = message("ManageTemplateRequest").field.iter().filter(|f| f.oneof_index.is_some());
        let actions: Vec<_> = actions.map(|field| format!("ManageTemplate/{}", field.name())).collect();
        assert!(actions.len() > 10, "{actions:?}");
        let mut served = Vec::new();
        for service in ours().flat_map(|file| &file.service) {
            for method in &service.method {
                let path = format!("/whatsapp.gateway.v1.{}/{}", service.name(), method.name());
                assert_eq!(measure::short(measure::method(&path)), method.name(), "grpc/measure.rs");
                match method.name() {
                    "ManageTemplate" => served.extend(actions.clone()),
                    name => served.push(name.to_owned()),
                }
            }
        }
        let mut table: Vec<_> = METHODS.iter().map(|(name, _)| (*name).to_owned()).collect();
        served.sort();
        table.sort();
        assert_eq!(served, table, "domain/rights.rs");
    }
}
