//! Why an operation failed, in terms a caller can act on.
//!
//! The classes are those of `google.rpc.Code` without its success; the reasons are those that
//! `error_reason.proto` publishes, by the same names. Both edges translate: `cloud_api` finds the verdict on a
//! code of Meta's, `grpc` makes a status of it.

use std::time::Duration;

/// What kind of failure it is; decides the gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request is wrong, whatever the state.
    InvalidArgument,
    /// Something that it names does not exist.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// The state does not allow it; a change elsewhere is needed.
    FailedPrecondition,
    /// Not allowed.
    PermissionDenied,
    /// Too much for now.
    ResourceExhausted,
    /// Lost against a concurrent operation.
    Aborted,
    /// Outside a range that moves.
    OutOfRange,
    /// Not offered.
    Unimplemented,
    /// Certainly not done, safe to try again.
    Unavailable,
    /// Nobody knows whether it was done.
    Unknown,
    /// What arrived is damaged.
    DataLoss,
    /// A defect.
    Internal,
}

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The calling service.
    Caller,
    /// Whoever runs the gateway or owns the WABA.
    Operator,
    /// Meta.
    Meta,
    /// The person who was to receive the message.
    Recipient,
}

impl Actor {
    /// The word that stands in the error's metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Operator => "operator",
            Self::Meta => "meta",
            Self::Recipient => "recipient",
        }
    }

    /// The actor of that word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Caller, Self::Operator, Self::Meta, Self::Recipient].into_iter().find(|a| a.as_str() == word)
    }
}

/// Whether and when the same request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// After a change of the request, the configuration or the account.
    AfterChange,
    /// Not to the same user.
    Never,
    /// With exponential backoff from this delay on.
    Backoff(Duration),
    /// Not before this delay has passed.
    Wait(Duration),
    /// Only by a caller who accepts that the message may go out twice.
    Ambiguous,
}

impl Retry {
    /// The delay to tell the caller, if one may simply be waited for.
    pub fn delay(self) -> Option<Duration> {
        match self {
            Self::Backoff(delay) | Self::Wait(delay) => Some(delay),
            Self::AfterChange | Self::Never | Self::Ambiguous => None,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The machine-readable reason of a failure. `error_reason.proto` documents each under the same name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that `error_reason.proto` gives it, without the enum's prefix.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The reason of that name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }
        }
    };
}

reasons! {
    /// One or more fields break a rule.
    ValidationFailed = "VALIDATION_FAILED",
    /// No, or wrong, credentials.
    CallerUnauthenticated = "CALLER_UNAUTHENTICATED",
    /// The caller may not do this.
    CallerNotAllowed = "CALLER_NOT_ALLOWED",
    /// The caller has used up what it may do.
    CallerQuota = "CALLER_QUOTA",
    /// No such method.
    MethodUnknown = "METHOD_UNKNOWN",
    /// The request stopped coming.
    RequestIncomplete = "REQUEST_INCOMPLETE",
    /// The request id stands for another request already.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// A call with the same request id is still running.
    RequestInProgress = "REQUEST_IN_PROGRESS",
    /// The business number is not configured.
    PhoneNumberNotConfigured = "PHONE_NUMBER_NOT_CONFIGURED",
    /// The WABA is not configured.
    WabaNotConfigured = "WABA_NOT_CONFIGURED",
    /// The request left and no answer proves what became of it.
    SendOutcomeUnknown = "SEND_OUTCOME_UNKNOWN",
    /// Meta could not be reached; nothing was sent.
    UpstreamUnreachable = "UPSTREAM_UNREACHABLE",
    /// Meta is out of order; nothing was done.
    UpstreamUnavailable = "UPSTREAM_UNAVAILABLE",
    /// Our access token is unusable or lacks a permission.
    UpstreamCredentials = "UPSTREAM_CREDENTIALS",
    /// The account or the number is blocked, unpaid or not yet set up.
    UpstreamAccount = "UPSTREAM_ACCOUNT",
    /// A feature is switched off or not available to the account.
    UpstreamFeature = "UPSTREAM_FEATURE",
    /// Meta found a parameter wrong.
    UpstreamInvalidParameter = "UPSTREAM_INVALID_PARAMETER",
    /// Meta does not know an object, or hides it.
    UpstreamNotFound = "UPSTREAM_NOT_FOUND",
    /// Meta has the object already.
    UpstreamConflict = "UPSTREAM_CONFLICT",
    /// Meta refused for a cause that no other reason names.
    UpstreamRefused = "UPSTREAM_REFUSED",
    /// The throughput of the business number is used up.
    UpstreamThroughput = "UPSTREAM_THROUGHPUT",
    /// Too many messages to the same user.
    UpstreamPairRate = "UPSTREAM_PAIR_RATE",
    /// The calls of the app or the WABA are used up.
    UpstreamAccountRate = "UPSTREAM_ACCOUNT_RATE",
    /// The message would not have its turn before the deadline; nothing was sent.
    LocalRateLimit = "LOCAL_RATE_LIMIT",
    /// The queue of the business number is full; nothing was queued.
    QueueFull = "QUEUE_FULL",
    /// The queued message did not have its turn in time; it was not sent and will not be.
    SendExpired = "SEND_EXPIRED",
    /// Meta limits the number or the user because of quality.
    UpstreamQualityLimit = "UPSTREAM_QUALITY_LIMIT",
    /// The customer service window is closed; a template is needed.
    WindowClosed = "WINDOW_CLOSED",
    /// The template does not exist in that language, or is not approved.
    TemplateNotFound = "TEMPLATE_NOT_FOUND",
    /// The template is paused or disabled.
    TemplateNotSendable = "TEMPLATE_NOT_SENDABLE",
    /// The parameters do not fit the template.
    TemplateParameters = "TEMPLATE_PARAMETERS",
    /// The template may not be created or changed so.
    TemplateRejected = "TEMPLATE_REJECTED",
    /// The media is of a wrong kind, too big or unreachable.
    MediaRejected = "MEDIA_REJECTED",
    /// The user cannot be reached.
    RecipientUnreachable = "RECIPIENT_UNREACHABLE",
    /// The user does not want such messages.
    RecipientOptedOut = "RECIPIENT_OPTED_OUT",
    /// The number or address may not be written to by this account.
    RecipientNotAllowed = "RECIPIENT_NOT_ALLOWED",
    /// Nothing is known of the conversation.
    ConversationNotFound = "CONVERSATION_NOT_FOUND",
    /// The text is no cursor of ours.
    CursorMalformed = "CURSOR_MALFORMED",
    /// The cursor belongs to another log, or to another history of this one.
    CursorEpochMismatch = "CURSOR_EPOCH_MISMATCH",
    /// The cursor names an event that this log does not have yet.
    CursorAheadOfLog = "CURSOR_AHEAD_OF_LOG",
    /// Retention has removed events after the cursor.
    CursorExpired = "CURSOR_EXPIRED",
    /// The subscriber did not read.
    SlowConsumer = "SLOW_CONSUMER",
    /// The stream has lived its time.
    StreamRotated = "STREAM_ROTATED",
    /// Too many open streams.
    StreamQuota = "STREAM_QUOTA",
    /// The gateway is shutting down.
    ServerDraining = "SERVER_DRAINING",
    /// No replica leads at this moment.
    NoLeader = "NO_LEADER",
    /// The event log cannot be read or written.
    EventStoreUnavailable = "EVENT_STORE_UNAVAILABLE",
    /// The caller has no such subscription.
    SubscriptionNotFound = "SUBSCRIPTION_NOT_FOUND",
    /// The caller has one of this name.
    SubscriptionExists = "SUBSCRIPTION_EXISTS",
    /// What never changes was to change.
    SubscriptionImmutable = "SUBSCRIPTION_IMMUTABLE",
    /// The settings have changed since they were read.
    SubscriptionChanged = "SUBSCRIPTION_CHANGED",
    /// As many subscriptions as there may be.
    SubscriptionQuota = "SUBSCRIPTION_QUOTA",
    /// Another stream of the same worker was opened.
    StreamTakenOver = "STREAM_TAKEN_OVER",
    /// The file is larger than Meta takes of its type.
    MediaTooLarge = "MEDIA_TOO_LARGE",
    /// Meta does not take files of this type.
    MediaTypeUnsupported = "MEDIA_TYPE_UNSUPPORTED",
    /// More or fewer bytes than declared.
    MediaSizeMismatch = "MEDIA_SIZE_MISMATCH",
    /// Other bytes than declared.
    MediaChecksumMismatch = "MEDIA_CHECKSUM_MISMATCH",
    /// The caller sent or read nothing for too long.
    MediaStreamStalled = "MEDIA_STREAM_STALLED",
    /// The caller's stream broke.
    MediaStreamBroken = "MEDIA_STREAM_BROKEN",
    /// The media is expired, deleted or of another number.
    MediaNotFound = "MEDIA_NOT_FOUND",
    /// The range begins behind the end.
    MediaRangeInvalid = "MEDIA_RANGE_INVALID",
    /// Meta named a host that may not get our access token.
    MediaHostNotAllowed = "MEDIA_HOST_NOT_ALLOWED",
    /// Nothing is known of the message.
    MessageNotFound = "MESSAGE_NOT_FOUND",
    /// A defect of the gateway.
    Internal = "INTERNAL",
}

/// What an error of Meta's means for the caller. One table in `cloud_api` holds the verdict on every code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Decides the status code.
    pub class: Class,
    /// The machine-readable reason.
    pub reason: Reason,
    /// Who must act.
    pub actor: Actor,
    /// Whether to try again.
    pub retry: Retry,
}

/// An error as Meta reported it (reference 1.6). Texts are Meta's and may be shown to the caller.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MetaError {
    /// Meta's code; `None` when the answer had no error envelope.
    pub code: Option<i64>,
    /// Meta's subcode.
    pub subcode: Option<i64>,
    /// `error_data.details`, else `error_user_title` and `error_user_msg`, else `message`.
    pub details: String,
    /// For a conversation with Meta's support.
    pub fbtrace_id: String,
    /// The HTTP status.
    pub http_status: u16,
}

shown!(MetaError { code, subcode, fbtrace_id, http_status });

/// A failed operation at Meta, in terms a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub verdict: Verdict,
    /// One sentence for the caller.
    pub message: String,
    /// What Meta said, if it said anything.
    pub meta: Option<MetaError>,
    /// Path of the field of the request that Meta's refusal is about, where that is known.
    pub field: Option<String>,
}

/// One field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field in the request, such as `text.body` or `template.components[0].header`.
    pub field: String,
    /// The rule and the remedy.
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_names_are_unique() {
        let names: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
