//! The values of the two buckets as bytes: a version, then protobuf that only this module knows.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

use super::queued::{self, QueuedValue, of_ms};
use super::{Outcome, PendingSend, RequestKey, RequestRecord, Resend};
use crate::clock::unix_ms;
use crate::domain::failure::{Actor, Class, Failure, MetaError, Reason, Retry, Verdict};
use crate::domain::ids::{BusinessScopedUserId, GroupId, MessageId, PhoneNumberId};
use crate::domain::message::{
    Endpoint, MessageAcceptance, PhoneNumber, PreparedMessage, Receipt, Recipient, SendTag,
};

const VERSION: u8 = 1;

#[derive(Clone, PartialEq, Message)]
struct RequestValue {
    #[prost(bytes = "vec", tag = "1")]
    fingerprint: Vec<u8>,
    #[prost(string, tag = "2")]
    tag: String,
    #[prost(uint64, tag = "3")]
    created_ms: u64,
    #[prost(bool, tag = "4")]
    used_fallback: bool,
    #[prost(string, optional, tag = "5")]
    phone_number_id: Option<String>,
    #[prost(uint64, optional, tag = "6")]
    since_ms: Option<u64>,
    /// Absent for what was not queued.
    #[prost(uint64, optional, tag = "7")]
    not_after_ms: Option<u64>,
    #[prost(oneof = "OutcomeValue", tags = "10, 11, 12, 13, 14, 15, 16")]
    outcome: Option<OutcomeValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OutcomeValue {
    #[prost(bool, tag = "10")]
    Sending(bool),
    #[prost(message, tag = "11")]
    Accepted(ReceiptValue),
    #[prost(message, tag = "12")]
    Refused(FailureValue),
    #[prost(message, tag = "13")]
    Unknown(FailureValue),
    #[prost(bytes = "bytes", tag = "14")]
    Answered(Bytes),
    #[prost(bool, tag = "15")]
    Queued(bool),
    #[prost(message, tag = "16")]
    Expired(FailureValue),
}

#[derive(Clone, PartialEq, Message)]
struct ReceiptValue {
    #[prost(string, tag = "1")]
    message_id: String,
    #[prost(uint32, tag = "2")]
    acceptance: u32,
    #[prost(message, optional, tag = "3")]
    recipient: Option<RecipientValue>,
    #[prost(message, required, tag = "4")]
    accept_time: Timestamp,
}

#[derive(Clone, PartialEq, Message)]
struct RecipientValue {
    #[prost(oneof = "AddressValue", tags = "1, 2, 3")]
    address: Option<AddressValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AddressValue {
    #[prost(string, tag = "1")]
    PhoneNumber(String),
    #[prost(string, tag = "2")]
    User(String),
    #[prost(string, tag = "3")]
    Group(String),
}

#[derive(Clone, PartialEq, Message)]
struct FailureValue {
    #[prost(uint32, tag = "1")]
    class: u32,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(string, tag = "3")]
    actor: String,
    #[prost(uint32, tag = "4")]
    retry: u32,
    #[prost(uint64, tag = "5")]
    retry_ms: u64,
    #[prost(string, tag = "6")]
    message: String,
    #[prost(message, optional, tag = "7")]
    meta: Option<MetaValue>,
    #[prost(string, optional, tag = "8")]
    field: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct MetaValue {
    #[prost(int64, optional, tag = "1")]
    code: Option<i64>,
    #[prost(int64, optional, tag = "2")]
    subcode: Option<i64>,
    #[prost(string, tag = "3")]
    details: String,
    #[prost(string, tag = "4")]
    fbtrace_id: String,
    #[prost(uint32, tag = "5")]
    http_status: u32,
}

#[derive(Clone, PartialEq, Message)]
struct PendingValue {
    #[prost(bytes = "vec", tag = "1")]
    request: Vec<u8>,
    #[prost(uint64, tag = "2")]
    created_ms: u64,
    #[prost(message, optional, tag = "3")]
    resend: Option<PreparedValue>,
    /// Absent for what was not queued.
    #[prost(uint64, optional, tag = "4")]
    not_after_ms: Option<u64>,
    #[prost(message, optional, tag = "5")]
    queued: Option<Box<QueuedValue>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PreparedValue {
    /// How often it was sent again.
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(string, tag = "2")]
    phone_number_id: String,
    #[prost(message, required, tag = "3")]
    recipient: RecipientValue,
    #[prost(bool, tag = "4")]
    is_marketing: bool,
    #[prost(string, tag = "5")]
    json: String,
}

/// The codes of `google.rpc.Code`, which do not change.
const CLASSES: [(Class, u32); 13] = [
    (Class::Unknown, 2),
    (Class::InvalidArgument, 3),
    (Class::NotFound, 5),
    (Class::AlreadyExists, 6),
    (Class::PermissionDenied, 7),
    (Class::ResourceExhausted, 8),
    (Class::FailedPrecondition, 9),
    (Class::Aborted, 10),
    (Class::OutOfRange, 11),
    (Class::Unimplemented, 12),
    (Class::Internal, 13),
    (Class::Unavailable, 14),
    (Class::DataLoss, 15),
];

const ACCEPTANCES: [(MessageAcceptance, u32); 3] = [
    (MessageAcceptance::Accepted, 0),
    (MessageAcceptance::HeldForQualityAssessment, 1),
    (MessageAcceptance::Paused, 2),
];

pub(super) fn record_to_bytes(record: &RequestRecord) -> Bytes {
    let outcome = match &record.outcome {
        Outcome::Sending => OutcomeValue::Sending(true),
        Outcome::Accepted(receipt) => OutcomeValue::Accepted(receipt_to_value(receipt)),
        Outcome::Refused(failure) => OutcomeValue::Refused(failure_to_value(failure)),
        Outcome::Unknown(failure) => OutcomeValue::Unknown(failure_to_value(failure)),
        Outcome::Answered(response) => OutcomeValue::Answered(response.clone()),
        Outcome::Queued => OutcomeValue::Queued(true),
        Outcome::Expired(failure) => OutcomeValue::Expired(failure_to_value(failure)),
    };
    encode(&RequestValue {
        fingerprint: record.fingerprint.to_vec(),
        tag: record.tag.as_str().to_owned(),
        created_ms: unix_ms(record.created),
        used_fallback: record.used_fallback,
        phone_number_id: record.phone_number_id.as_ref().map(|number| number.as_str().to_owned()),
        since_ms: Some(unix_ms(record.since)),
        not_after_ms: record.not_after.map(unix_ms),
        outcome: Some(outcome),
    })
}

/// `None` for what another version wrote.
pub(super) fn record_of_bytes(bytes: &[u8]) -> Option<RequestRecord> {
    let value: RequestValue = decode(bytes)?;
    let outcome = match value.outcome? {
        OutcomeValue::Sending(_) => Outcome::Sending,
        OutcomeValue::Accepted(receipt) => Outcome::Accepted(receipt_of_value(receipt)?),
        OutcomeValue::Refused(failure) => Outcome::Refused(failure_of_value(failure)?),
        OutcomeValue::Unknown(failure) => Outcome::Unknown(failure_of_value(failure)?),
        OutcomeValue::Answered(response) => Outcome::Answered(response),
        OutcomeValue::Queued(_) => Outcome::Queued,
        OutcomeValue::Expired(failure) => Outcome::Expired(failure_of_value(failure)?),
    };
    let fingerprint = value.fingerprint.try_into().ok()?;
    let tag = SendTag::parse(&value.tag).ok()?;
    let (created, used_fallback) = (of_ms(value.created_ms), value.used_fallback);
    let phone_number_id = match value.phone_number_id {
        Some(number) => Some(PhoneNumberId::parse(&number).ok()?),
        None => None,
    };
    let since = value.since_ms.map_or(created, of_ms);
    let not_after = value.not_after_ms.map(of_ms);
    Some(RequestRecord {
        fingerprint,
        tag,
        created,
        phone_number_id,
        used_fallback,
        not_after,
        outcome,
        since,
    })
}

pub(super) fn pending_to_bytes(pending: &PendingSend) -> Bytes {
    let resend = pending.resend.as_ref();
    encode(&PendingValue {
        request: pending.request.0.to_vec(),
        created_ms: unix_ms(pending.created),
        resend: resend.map(|again| PreparedValue { count: again.count, ..prepared_to_value(&again.message) }),
        not_after_ms: pending.not_after.map(unix_ms),
        queued: pending.queued.as_ref().map(|queued| Box::new(queued::to_value(queued))),
    })
}

/// `None` for what another version wrote.
pub(super) fn pending_of_bytes(bytes: &[u8]) -> Option<PendingSend> {
    let value: PendingValue = decode(bytes)?;
    // A message that cannot be read must not turn into a send that is only reported, or forgotten.
    let resend = match value.resend {
        Some(again) => Some(Resend { count: again.count, message: prepared_of_value(again)? }),
        None => None,
    };
    let queued = match value.queued {
        Some(queued) => Some(Box::new(queued::of_value(*queued)?)),
        None => None,
    };
    let request = RequestKey(value.request.try_into().ok()?);
    let not_after = value.not_after_ms.map(of_ms);
    Some(PendingSend { request, created: of_ms(value.created_ms), not_after, resend, queued })
}

pub(super) fn prepared_to_value(message: &PreparedMessage) -> PreparedValue {
    PreparedValue {
        count: 0,
        phone_number_id: message.phone_number_id.as_str().to_owned(),
        recipient: recipient_to_value(&message.recipient),
        is_marketing: message.endpoint == Endpoint::MarketingMessages,
        json: message.json.clone(),
    }
}

pub(super) fn prepared_of_value(value: PreparedValue) -> Option<PreparedMessage> {
    let endpoint = if value.is_marketing { Endpoint::MarketingMessages } else { Endpoint::Messages };
    Some(PreparedMessage {
        phone_number_id: PhoneNumberId::parse(&value.phone_number_id).ok()?,
        recipient: recipient_of_value(value.recipient)?,
        endpoint,
        json: value.json,
    })
}

fn encode(value: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + value.encoded_len());
    bytes.push(VERSION);
    bytes.extend(value.encode_to_vec());
    bytes.into()
}

fn decode<T: Message + Default>(bytes: &[u8]) -> Option<T> {
    let (version, value) = bytes.split_first()?;
    (*version == VERSION).then(|| T::decode(value).ok())?
}

fn receipt_to_value(receipt: &Receipt) -> ReceiptValue {
    let acceptance = ACCEPTANCES.iter().find(|(acceptance, _)| *acceptance == receipt.acceptance);
    ReceiptValue {
        message_id: receipt.message_id.as_str().to_owned(),
        acceptance: acceptance.map_or(0, |(_, number)| *number),
        recipient: receipt.recipient.as_ref().map(recipient_to_value),
        accept_time: receipt.accept_time.into(),
    }
}

fn receipt_of_value(value: ReceiptValue) -> Option<Receipt> {
    let (acceptance, _) = ACCEPTANCES.iter().find(|(_, number)| *number == value.acceptance)?;
    Some(Receipt {
        message_id: MessageId::parse(&value.message_id).ok()?,
        acceptance: *acceptance,
        recipient: value.recipient.and_then(recipient_of_value),
        accept_time: value.accept_time.try_into().ok()?,
    })
}

fn recipient_to_value(recipient: &Recipient) -> RecipientValue {
    let address = match recipient {
        Recipient::PhoneNumber(number) => AddressValue::PhoneNumber(number.digits().to_owned()),
        Recipient::User(id) => AddressValue::User(id.expose().to_owned()),
        Recipient::Group(id) => AddressValue::Group(id.as_str().to_owned()),
    };
    RecipientValue { address: Some(address) }
}

fn recipient_of_value(value: RecipientValue) -> Option<Recipient> {
    Some(match value.address? {
        AddressValue::PhoneNumber(number) => Recipient::PhoneNumber(PhoneNumber::parse(&number).ok()?),
        AddressValue::User(id) => Recipient::User(BusinessScopedUserId::parse(&id).ok()?),
        AddressValue::Group(id) => Recipient::Group(GroupId::parse(&id).ok()?),
    })
}

fn failure_to_value(failure: &Failure) -> FailureValue {
    let Failure { verdict, message, meta, field } = failure;
    let (retry, delay) = match verdict.retry {
        Retry::AfterChange => (0, Duration::ZERO),
        Retry::Never => (1, Duration::ZERO),
        Retry::Backoff(delay) => (2, delay),
        Retry::Wait(delay) => (3, delay),
        Retry::Ambiguous => (4, Duration::ZERO),
    };
    FailureValue {
        class: CLASSES.iter().find(|(class, _)| *class == verdict.class).map_or(2, |(_, code)| *code),
        reason: verdict.reason.as_str().to_owned(),
        actor: verdict.actor.as_str().to_owned(),
        retry,
        retry_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        message: message.clone(),
        meta: meta.as_ref().map(|meta| MetaValue {
            code: meta.code,
            subcode: meta.subcode,
            details: meta.details.clone(),
            fbtrace_id: meta.fbtrace_id.clone(),
            http_status: meta.http_status.into(),
        }),
        field: field.clone(),
    }
}

fn failure_of_value(value: FailureValue) -> Option<Failure> {
    let delay = Duration::from_millis(value.retry_ms);
    let retry = match value.retry {
        0 => Retry::AfterChange,
        1 => Retry::Never,
        2 => Retry::Backoff(delay),
        3 => Retry::Wait(delay),
        4 => Retry::Ambiguous,
        _ => return None,
    };
    let (class, _) = CLASSES.iter().find(|(_, code)| *code == value.class)?;
    let (reason, actor) = (Reason::named(&value.reason)?, Actor::named(&value.actor)?);
    let meta = value.meta.map(|meta| MetaError {
        code: meta.code,
        subcode: meta.subcode,
        details: meta.details,
        fbtrace_id: meta.fbtrace_id,
        http_status: u16::try_from(meta.http_status).unwrap_or_default(),
    });
    Some(Failure {
        verdict: Verdict { class: *class, reason, actor, retry },
        message: value.message,
        meta,
        field: value.field,
    })
}
