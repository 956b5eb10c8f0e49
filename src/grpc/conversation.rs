//! `GetConversation`.

use tonic::Status;

use crate::contract::v1;
use crate::contract::v1::get_conversation_request::Conversation as Pb;
use crate::domain::ids::{BusinessScopedUserId, PhoneNumberId, WaId};
use crate::domain::window::Known;
use crate::flows::conversations::{Conversation, Which};

use super::callers::Identity;
use super::convert::{self, Violations};
use super::service::Service;
use super::status;

impl Service {
    pub(super) async fn conversation(
        &self,
        who: &Identity,
        request: v1::GetConversationRequest,
    ) -> Result<v1::GetConversationResponse, Status> {
        let mut found = Violations::of_message("GetConversationRequest", &request);
        let number = self.number(who, ("phone_number_id", &request.phone_number_id), &mut found)?;
        let which = match request.conversation {
            Some(Pb::Recipient(recipient)) => {
                convert::recipient(&recipient, &mut found).map(Which::Recipient)
            }
            Some(Pb::ConversationKey(key)) => Some(Which::Key(key)),
            None => None,
        };
        let (Some(number), Some(which), true) = (number, which, found.is_empty()) else {
            return Err(status::invalid(found.into_inner()));
        };
        let conversation = self.flows()?.conversations.get(&number, which).await?;
        Ok(to_pb(&number, conversation))
    }
}

fn to_pb(number: &PhoneNumberId, conversation: Conversation) -> v1::GetConversationResponse {
    let Conversation { key, names, window, closes_at, free_entry_until } = conversation;
    let (state, may_send_free_form) = match window {
        Some(Known::Open { .. }) => (v1::WindowState::Open, Some(true)),
        Some(Known::Closed { .. }) => (v1::WindowState::Closed, Some(false)),
        Some(Known::Unknown) | None => (v1::WindowState::Unknown, None),
    };
    let name = |text: Option<&str>| text.unwrap_or_default().to_owned();
    v1::GetConversationResponse {
        conversation_key: key.unwrap_or_default(),
        phone_number_id: number.to_string(),
        customer_service_window: window
            .map(|_| v1::CustomerServiceWindow { state: state.into(), closes_at: closes_at.map(Into::into) }),
        free_entry_point_expires_at: free_entry_until.map(Into::into),
        may_send_free_form,
        user: (!names.is_empty()).then(|| v1::EventUser {
            wa_id: name(names.wa_id.as_ref().map(WaId::expose)),
            user_id: name(names.user_id.as_ref().map(BusinessScopedUserId::expose)),
        }),
    }
}
