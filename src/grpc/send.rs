//! `SendMessage`: what a request asks for, and which flow does it.

use tonic::Status;

use crate::contract::v1;
use crate::domain::message::OutboundMessage;
use crate::domain::window::IfClosed;
use crate::flows::queue::Enqueued;
use crate::flows::send_message::{SendMessage, Terms};
use crate::flows::window::Admitted;

use super::callers::Identity;
use super::convert::{self, Asked, Violations};
use super::sent::{queued_to_pb, sent_to_pb};
use super::service::Service;
use super::status;

/// A message that is to be sent, and how.
struct Order {
    message: OutboundMessage,
    if_closed: IfClosed,
    terms: Terms,
    previews: Previews,
    is_validated_only: bool,
}

/// The JSON of a message and of its fallback, where the caller wants to see it.
#[derive(Default)]
struct Previews {
    message: String,
    fallback: String,
}

impl Previews {
    fn of_both(message: &OutboundMessage, if_closed: &IfClosed) -> Self {
        let fallback = if_closed.fallback.as_deref().map(SendMessage::preview).unwrap_or_default();
        Self { message: SendMessage::preview(message), fallback }
    }

    /// That of what went out.
    fn of(self, used_fallback: bool) -> String {
        if used_fallback { self.fallback } else { self.message }
    }
}

impl Service {
    /// Sends a message, or queues it, or tells what would be sent.
    pub(super) async fn send(
        &self,
        who: &Identity,
        request: v1::SendMessageRequest,
        asked: Asked,
    ) -> Result<v1::SendMessageResponse, Status> {
        let Order { message, if_closed, terms, previews, is_validated_only } =
            self.order(who, request, asked)?;
        if is_validated_only {
            return Box::pin(self.validate(message, if_closed, previews, asked)).await;
        }
        self.quotas.send(who)?;
        let sent = if terms.queue.is_some() {
            match Box::pin(self.flows()?.queue.enqueue(&who.caller, message, if_closed, terms)).await? {
                Enqueued::Waits { tag, phone_number_id, is_replayed } => {
                    return Ok(queued_to_pb(&tag, &phone_number_id, is_replayed, previews.message));
                }
                Enqueued::Sent(sent) => sent,
            }
        } else {
            self.flows()?.send_message.send(&who.caller, message, if_closed, terms).await?
        };
        who.note(|facts| facts.message = self.audit_key.message(&sent.receipt.message_id));
        let request_json = previews.of(sent.used_fallback);
        Ok(v1::SendMessageResponse { request_json, ..sent_to_pb(sent) })
    }

    /// What a request asks for, if it may.
    fn order(&self, who: &Identity, request: v1::SendMessageRequest, asked: Asked) -> Result<Order, Status> {
        let mut found = Violations::default();
        let outbound = convert::outbound(&request, &mut found);
        let terms = convert::terms(&request, asked);
        let number = self.number(who, ("phone_number_id", &request.phone_number_id), &mut found)?;
        let (Some(outbound), Some(phone_number_id)) = (outbound, number) else {
            return Err(status::invalid(found.into_inner()));
        };
        let message = OutboundMessage {
            phone_number_id,
            recipient: outbound.recipient,
            reply_to: outbound.reply_to,
            callback_data: request.callback_data,
            content: outbound.content,
            endpoint: outbound.endpoint,
        };
        who.note(|facts| facts.recipient = self.audit_key.recipient(&message.recipient));
        let policy = convert::window_policy(request.window_policy);
        let fallback = outbound.fallback.map(|content| Box::new(convert::instead_of(&message, content)));
        let if_closed = IfClosed { policy, fallback };
        let previews =
            if request.show_request { Previews::of_both(&message, &if_closed) } else { Previews::default() };
        Ok(Order { message, if_closed, terms, previews, is_validated_only: request.validate_only })
    }

    /// What would go out now.
    async fn validate(
        &self,
        message: OutboundMessage,
        if_closed: IfClosed,
        previews: Previews,
        asked: Asked,
    ) -> Result<v1::SendMessageResponse, Status> {
        let Admitted { message, used_fallback, .. } =
            self.flows()?.windows.admit(message, if_closed, asked.deadline).await?;
        Ok(v1::SendMessageResponse {
            state: v1::SendState::Validated.into(),
            phone_number_id: message.phone_number_id.to_string(),
            request_json: previews.of(used_fallback),
            used_fallback,
            ..Default::default()
        })
    }
}
