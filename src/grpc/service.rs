//! `GatewayService`: validate, call the flow, translate.

use std::sync::{Arc, OnceLock};

use tonic::{Request, Response, Status, Streaming};
use tracing::error;

use crate::contract::server::gateway_service_server::GatewayService;
use crate::contract::v1;
use crate::domain::ids::MessageId;
use crate::domain::schedule::Class as Priority;
use crate::flows::conversations::Conversations;
use crate::flows::deliver_events::DeliverEvents;
use crate::flows::download_media::DownloadMedia;
use crate::flows::follow_message::FollowMessage;
use crate::flows::manage_template::ManageTemplate;
use crate::flows::mark_read::MarkRead;
use crate::flows::numbers::Numbers;
use crate::flows::queue::Queue;
use crate::flows::send_message::SendMessage;
use crate::flows::subscriptions::Subscriptions;
use crate::flows::upload_media::UploadMedia;
use crate::flows::window::Windows;
use crate::listener::ConnectionInfo;

use super::audit::Key;
use super::callers::Identity;
use super::convert::{Asked, Violations};
use super::deadline::deadline;
use super::manage_template;
use super::measure::{
    ACKNOWLEDGE_EVENTS, DELETE_MEDIA, DOWNLOAD_MEDIA, GET_CONVERSATION, GET_MEDIA, GET_MESSAGE,
    MARK_MESSAGE_READ, SEND_MESSAGE, SEND_MESSAGES, SUBSCRIBE_EVENTS, UPLOAD_MEDIA, WATCH_MESSAGE, WHO_AM_I,
    answered, measured,
};
use super::media::MediaStream;
use super::message::MessageStream;
use super::quotas::Quotas;
use super::rights::{self, who};
use super::send_messages::{AnswerStream, SendStreams};
use super::status;
use super::stream::ResponseStream;
use super::who_am_i;

/// What every replica does, whoever leads.
#[derive(Debug, Clone)]
pub struct Everywhere {
    /// Which numbers and WABAs there are.
    pub numbers: Numbers,
    /// Streams events.
    pub deliver_events: DeliverEvents,
    /// The streams of sends.
    pub send_streams: SendStreams,
}

/// The flows of the leader.
#[derive(Debug)]
pub struct Flows {
    /// Sends.
    pub send_message: Arc<SendMessage>,
    /// Sends later.
    pub queue: Queue,
    /// Holds messages against the window.
    pub windows: Windows,
    /// Reads conversations.
    pub conversations: Conversations,
    /// Marks as read.
    pub mark_read: MarkRead,
    /// Tells what became of messages.
    pub follow_message: FollowMessage,
    /// Manages templates.
    pub manage_template: ManageTemplate,
    /// Uploads files.
    pub upload_media: UploadMedia,
    /// Reads and deletes files.
    pub download_media: DownloadMedia,
    /// Shares events among workers.
    pub subscriptions: Subscriptions,
}

/// The implementation of `GatewayService`.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) everywhere: Everywhere,
    /// Empty until this process leads.
    flows: Arc<OnceLock<Flows>>,
    pub(super) quotas: Quotas,
    /// Of the hashes in the audit log.
    pub(super) audit_key: Key,
}

impl Service {
    /// Serves what every replica does; the relay keeps away what only the leader does.
    pub fn new(everywhere: Everywhere) -> Self {
        let (flows, quotas, audit_key) = (Arc::default(), Quotas::default(), Key::draw());
        Self { everywhere, flows, quotas, audit_key }
    }

    /// The streams of events, which subscriptions share with all others.
    pub fn streams(&self) -> DeliverEvents {
        self.everywhere.deliver_events.clone()
    }

    /// Serves what the leader does too. A process becomes the leader once.
    pub fn lead(&self, flows: Flows) {
        if self.flows.set(flows).is_err() {
            error!("the flows of the leader were built twice; the first ones stay");
        }
    }

    /// What only the leader does.
    pub(super) fn flows(&self) -> Result<&Flows, Status> {
        self.flows.get().ok_or_else(status::no_leader)
    }

    async fn mark(
        &self,
        who: &Identity,
        request: v1::MarkMessageReadRequest,
    ) -> Result<v1::MarkMessageReadResponse, Status> {
        let mut found = Violations::of_message("MarkMessageReadRequest", &request);
        let number = self.number(who, ("phone_number_id", &request.phone_number_id), &mut found)?;
        let (Ok(message), Some(number)) = (MessageId::parse(&request.message_id), number) else {
            return Err(status::invalid(found.into_inner()));
        };
        if !found.is_empty() {
            return Err(status::invalid(found.into_inner()));
        }
        who.note(|facts| facts.message = self.audit_key.message(&message));
        self.flows()?.mark_read.mark(&number, &message, request.typing_indicator).await?;
        Ok(v1::MarkMessageReadResponse {})
    }
}

#[tonic::async_trait]
impl GatewayService for Service {
    async fn send_message(
        &self,
        request: Request<v1::SendMessageRequest>,
    ) -> Result<Response<v1::SendMessageResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let request = Request::from_parts(metadata, extensions, ());
        // On the heap, or each wrapper would copy it: it has more states than other calls.
        let call = Box::pin(async {
            let who = who(&request)?;
            let asked = Asked { deadline: deadline(&request), usual: Priority::Normal };
            let answer = self.send(who, message, asked).await;
            answered(&answer);
            answer.map(Response::new)
        });
        measured(SEND_MESSAGE, &request, call).await
    }

    type SendMessagesStream = AnswerStream;

    async fn send_messages(
        &self,
        request: Request<Streaming<v1::SendMessagesRequest>>,
    ) -> Result<Response<AnswerStream>, Status> {
        let (metadata, extensions, stream) = request.into_parts();
        let request = Request::from_parts(metadata, extensions, ());
        measured(SEND_MESSAGES, &request, async { self.send_all(&request, stream).map(Response::new) }).await
    }

    async fn get_conversation(
        &self,
        request: Request<v1::GetConversationRequest>,
    ) -> Result<Response<v1::GetConversationResponse>, Status> {
        measured(GET_CONVERSATION, &request, async {
            self.conversation(who(&request)?, request.get_ref().clone()).await.map(Response::new)
        })
        .await
    }

    async fn mark_message_read(
        &self,
        request: Request<v1::MarkMessageReadRequest>,
    ) -> Result<Response<v1::MarkMessageReadResponse>, Status> {
        measured(MARK_MESSAGE_READ, &request, async {
            self.mark(who(&request)?, request.get_ref().clone()).await.map(Response::new)
        })
        .await
    }

    async fn manage_template(
        &self,
        request: Request<v1::ManageTemplateRequest>,
    ) -> Result<Response<v1::ManageTemplateResponse>, Status> {
        let method = manage_template::method(request.get_ref());
        measured(method, &request, async {
            let who = who(&request)?;
            // Without an action nothing is done: the request is refused for that.
            if request.get_ref().action.is_some() {
                rights::act(who, method)?;
            }
            self.manage(who, request.get_ref(), deadline(&request)).await.map(Response::new)
        })
        .await
    }

    async fn upload_media(
        &self,
        request: Request<Streaming<v1::UploadMediaRequest>>,
    ) -> Result<Response<v1::UploadMediaResponse>, Status> {
        let (metadata, extensions, stream) = request.into_parts();
        let request = Request::from_parts(metadata, extensions, ());
        measured(UPLOAD_MEDIA, &request, async {
            let who = who(&request)?;
            // On the heap: the state of an upload is larger than that of all other calls.
            Box::pin(self.upload(who, stream, deadline(&request))).await.map(Response::new)
        })
        .await
    }

    async fn get_message(
        &self,
        request: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        measured(GET_MESSAGE, &request, async {
            let who = who(&request)?;
            self.tell(who, request.get_ref()).await.map(Response::new)
        })
        .await
    }

    type WatchMessageStream = MessageStream;

    async fn watch_message(
        &self,
        request: Request<v1::WatchMessageRequest>,
    ) -> Result<Response<MessageStream>, Status> {
        measured(WATCH_MESSAGE, &request, async {
            self.watch(who(&request)?, request.get_ref()).map(Response::new)
        })
        .await
    }

    type DownloadMediaStream = MediaStream;

    async fn download_media(
        &self,
        request: Request<v1::DownloadMediaRequest>,
    ) -> Result<Response<MediaStream>, Status> {
        measured(DOWNLOAD_MEDIA, &request, async {
            let who = who(&request)?;
            self.download(who, request.get_ref()).await.map(Response::new)
        })
        .await
    }

    async fn get_media(
        &self,
        request: Request<v1::GetMediaRequest>,
    ) -> Result<Response<v1::GetMediaResponse>, Status> {
        measured(GET_MEDIA, &request, async {
            self.describe(who(&request)?, request.get_ref()).await.map(Response::new)
        })
        .await
    }

    async fn delete_media(
        &self,
        request: Request<v1::DeleteMediaRequest>,
    ) -> Result<Response<v1::DeleteMediaResponse>, Status> {
        measured(DELETE_MEDIA, &request, async {
            self.delete(who(&request)?, request.get_ref()).await.map(Response::new)
        })
        .await
    }

    type SubscribeEventsStream = ResponseStream;

    async fn subscribe_events(
        &self,
        request: Request<v1::SubscribeEventsRequest>,
    ) -> Result<Response<ResponseStream>, Status> {
        measured(SUBSCRIBE_EVENTS, &request, async {
            let who = who(&request)?;
            let connection = request.extensions().get::<ConnectionInfo>().cloned();
            self.subscribe(who, request.get_ref().clone(), connection).await.map(Response::new)
        })
        .await
    }

    async fn acknowledge_events(
        &self,
        request: Request<v1::AcknowledgeEventsRequest>,
    ) -> Result<Response<v1::AcknowledgeEventsResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let request = Request::from_parts(metadata, extensions, ());
        measured(ACKNOWLEDGE_EVENTS, &request, async {
            self.acknowledge(who(&request)?, message).await.map(Response::new)
        })
        .await
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        measured(WHO_AM_I, &request, async { Ok(Response::new(who_am_i::answer(who(&request)?))) }).await
    }
}
