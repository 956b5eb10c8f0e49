//! What the store of sends promises over every engine, crashes between its writes included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::Subject;
use crate::clock::Clock as _;
use crate::domain::caller::Caller;
use crate::domain::failure::{Actor, Class, Failure, MetaError, Reason, Retry, Verdict};
use crate::domain::ids::{BusinessScopedUserId, GroupId, MessageId, PhoneNumberId};
use crate::domain::message::{
    Endpoint, MessageAcceptance, PhoneNumber, PreparedMessage, Receipt, Recipient, SendTag,
};
use crate::domain::schedule;
use crate::domain::window::WindowPolicy;
use crate::storage::keyed_state::{Bucket, Entry, KeyedState, Precondition, Put, StateError};
use crate::storage::sends::{
    Claimed, Outcome, PendingSend, QueuedSend, RequestKey, RequestRecord, Resend, Sends, Stored,
};
use crate::telemetry::TraceContext;

const KEPT: Duration = Duration::from_hours(24);

fn sends(subject: &Subject) -> Sends {
    Sends::new(Arc::clone(&subject.state), KEPT)
}

fn key(id: &str) -> RequestKey {
    RequestKey::of(&Caller::named("orders"), "SendMessage", id)
}

fn tag(number: u8) -> SendTag {
    SendTag::parse(&format!("AZ3kq0p2cXKkzqv1b5{number:03}w")).unwrap()
}

fn record(subject: &Subject, number: u8, outcome: Outcome) -> RequestRecord {
    let (created, used_fallback) = (subject.clock.now(), number % 2 == 1);
    let phone_number_id = used_fallback.then(|| PhoneNumberId::parse("1").unwrap());
    let since = created + Duration::from_millis(1500);
    let (fingerprint, tag) = ([number; 32], tag(number));
    let not_after = None;
    RequestRecord { fingerprint, tag, created, phone_number_id, used_fallback, not_after, outcome, since }
}

fn pending(subject: &Subject, id: &str) -> PendingSend {
    let created = subject.clock.now();
    PendingSend { request: key(id), created, not_after: None, resend: None, queued: None }
}

fn receipt(subject: &Subject, recipient: Option<Recipient>) -> Receipt {
    Receipt {
        message_id: MessageId::parse("wamid.A").unwrap(),
        acceptance: MessageAcceptance::HeldForQualityAssessment,
        recipient,
        accept_time: subject.clock.now() + Duration::from_nanos(123_456_789),
    }
}

fn failure(class: Class, retry: Retry) -> Failure {
    let verdict = Verdict { class, reason: Reason::UpstreamThroughput, actor: Actor::Caller, retry };
    let meta = MetaError {
        code: Some(130_429),
        subcode: None,
        details: "d".to_owned(),
        fbtrace_id: "f".to_owned(),
        http_status: 400,
    };
    Failure { verdict, message: "m".to_owned(), meta: Some(meta), field: Some("text.body".to_owned()) }
}

async fn claim(subject: &Subject, id: &str, number: u8, precondition: Precondition) -> Claimed {
    let (record, pending) = (record(subject, number, Outcome::Sending), pending(subject, id));
    sends(subject).claim(&key(id), &record, Some(&pending), precondition).await.unwrap()
}

async fn won(subject: &Subject, id: &str, number: u8) -> u64 {
    let Claimed::Won(revision) = claim(subject, id, number, Precondition::Absent).await else {
        panic!("not won")
    };
    revision
}

async fn open_sends(subject: &Subject) -> Vec<(PendingSend, Stored)> {
    let mut open = Vec::new();
    sends(subject).open_sends(|pending, stored| open.push((pending, stored))).await.unwrap();
    open
}

async fn open_tags(subject: &Subject) -> Vec<SendTag> {
    let tags: Vec<_> = open_sends(subject).await.into_iter().map(|(_, stored)| stored.record.tag).collect();
    let among = sends(subject).open_among(&tags).await.unwrap();
    assert!(among.into_iter().map(|(_, stored)| stored.record.tag).eq(tags.iter().cloned()));
    tags
}

/// Every kind of outcome comes back as it was written.
pub async fn gives_back_every_outcome(subject: &Subject) {
    let group = Recipient::Group(GroupId::parse("Y2Fw").unwrap());
    let user = Recipient::User(BusinessScopedUserId::parse("US.1").unwrap());
    let number = Recipient::PhoneNumber(PhoneNumber::parse("+16505551234").unwrap());
    let retries =
        [Retry::AfterChange, Retry::Never, Retry::Wait(KEPT), Retry::Backoff(KEPT), Retry::Ambiguous];
    let mut outcomes = vec![
        Outcome::Queued,
        Outcome::Sending,
        Outcome::Expired(failure(Class::FailedPrecondition, Retry::AfterChange)),
        Outcome::Accepted(receipt(subject, None)),
        Outcome::Unknown(Failure { meta: None, ..failure(Class::Unknown, Retry::Ambiguous) }),
        Outcome::Answered(Bytes::from_static(b"\0response")),
    ];
    outcomes.extend([group, user, number].map(|to| Outcome::Accepted(receipt(subject, Some(to)))));
    outcomes.extend(retries.map(|retry| Outcome::Refused(failure(Class::ResourceExhausted, retry))));
    let mut revision = won(subject, "a", 1).await;
    for outcome in outcomes {
        let record = record(subject, 1, outcome);
        revision = sends(subject).settle(&key("a"), &record, revision).await.unwrap();
        assert_eq!(sends(subject).request(&key("a")).await.unwrap(), Some(Stored { record, revision }));
    }
}

/// Caller, RPC and id together name a request.
pub async fn separates_callers_and_rpcs(subject: &Subject) {
    let keys = [
        key("a"),
        key("b"),
        RequestKey::of(&Caller::named("billing"), "SendMessage", "a"),
        RequestKey::of(&Caller::named("orders"), "UploadMedia", "a"),
    ];
    for (number, key) in keys.iter().enumerate() {
        let record = record(subject, u8::try_from(number).unwrap(), Outcome::Sending);
        let claimed = sends(subject).claim(key, &record, None, Precondition::Absent).await.unwrap();
        assert!(matches!(claimed, Claimed::Won(_)), "{number}");
    }
}

/// Of many claims at once one wins, the others see it, and only its send is pending.
pub async fn lets_one_claimant_send(subject: &Subject) {
    let mut claims = JoinSet::new();
    for number in 0..30 {
        let (sends, record) = (sends(subject), record(subject, number, Outcome::Sending));
        let pending = pending(subject, "a");
        claims.spawn(async move {
            sends.claim(&key("a"), &record, Some(&pending), Precondition::Absent).await.unwrap()
        });
    }
    let mut claims = claims.join_all().await;
    assert_eq!(claims.extract_if(.., |claim| matches!(claim, Claimed::Won(_))).count(), 1);
    let stored = sends(subject).request(&key("a")).await.unwrap();
    assert!(claims.into_iter().all(|claim| claim == Claimed::Lost(stored.clone().map(Box::new))));
    assert_eq!(open_tags(subject).await, [stored.unwrap().record.tag]);
}

/// A refused request is claimed again at its revision, once.
pub async fn claims_again_at_a_revision(subject: &Subject) {
    let revision = won(subject, "a", 1).await;
    let refused = record(subject, 1, Outcome::Refused(failure(Class::Unavailable, Retry::Never)));
    let revision = sends(subject).settle(&key("a"), &refused, revision).await.unwrap();
    sends(subject).forget(&tag(1)).await.unwrap();
    let lost = Claimed::Lost(Some(Box::new(Stored { record: refused, revision })));
    assert_eq!(claim(subject, "a", 2, Precondition::Absent).await, lost);
    assert!(matches!(claim(subject, "a", 2, Precondition::Revision(revision)).await, Claimed::Won(_)));
    assert!(matches!(claim(subject, "a", 3, Precondition::Revision(revision)).await, Claimed::Lost(Some(_))));
    assert_eq!(open_tags(subject).await, [tag(2)]);
}

/// What may be sent again is kept word for word, with its count.
pub async fn keeps_what_may_be_sent_again(subject: &Subject) {
    let message = PreparedMessage {
        phone_number_id: PhoneNumberId::parse("1").unwrap(),
        recipient: Recipient::PhoneNumber(PhoneNumber::parse("+16505551234").unwrap()),
        endpoint: Endpoint::MarketingMessages,
        json: r#"{"text":{"body":"Grüße"}}"#.to_owned(),
    };
    let mut pending = PendingSend { resend: Some(Resend { message, count: 0 }), ..pending(subject, "a") };
    let record = record(subject, 1, Outcome::Sending);
    let claimed = sends(subject).claim(&key("a"), &record, Some(&pending), Precondition::Absent).await;
    let Ok(Claimed::Won(revision)) = claimed else { panic!("{claimed:?}") };
    pending.resend.as_mut().unwrap().count = 2;
    sends(subject).note(&record.tag, &pending).await.unwrap();
    assert_eq!(sends(subject).pending(&tag(1)).await.unwrap().as_ref(), Some(&pending));
    assert_eq!(open_sends(subject).await, [(pending, Stored { record, revision })]);
    assert_eq!(sends(subject).pending(&tag(2)).await, Ok(None));
}

/// A queued message is kept word for word until what became of it was reported, and its request from the end of its time on.
pub async fn keeps_a_queued_message_until_it_is_reported(subject: &Subject) {
    let message = |json: &str| PreparedMessage {
        phone_number_id: PhoneNumberId::parse("1").unwrap(),
        recipient: Recipient::User(BusinessScopedUserId::parse("US.1").unwrap()),
        endpoint: Endpoint::Messages,
        json: json.to_owned(),
    };
    let not_after = subject.clock.now() + 5 * KEPT;
    let queued = QueuedSend {
        request_id: "a".to_owned(),
        caller: Caller::named("orders"),
        class: schedule::Class::Bulk,
        not_before: Some(subject.clock.now() + KEPT),
        not_after,
        message: message("{}"),
        kind: "text".to_owned(),
        window_policy: Some(WindowPolicy::Ignore),
        fallback: Some(message("[]")),
        may_resend: true,
        trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        callback_data: "order=1".to_owned(),
    };
    let record = |outcome| RequestRecord { not_after: Some(not_after), ..record(subject, 1, outcome) };
    let queued = Some(Box::new(queued));
    let pending = PendingSend { not_after: Some(not_after), queued, ..pending(subject, "a") };
    let sends = sends(subject);
    let claimed =
        sends.claim(&key("a"), &record(Outcome::Queued), Some(&pending), Precondition::Absent).await;
    let Ok(Claimed::Won(revision)) = claimed else { panic!("{claimed:?}") };
    let stored = Stored { record: record(Outcome::Queued), revision };
    assert_eq!(open_sends(subject).await, [(pending.clone(), stored)]);
    assert_eq!(sends.pending(&tag(1)).await.unwrap(), Some(pending.clone()));
    subject.clock.advance(5 * KEPT);
    let accepted = record(Outcome::Accepted(receipt(subject, None)));
    let revision = sends.settle(&key("a"), &accepted, revision).await.unwrap();
    let stored = Stored { record: accepted, revision };
    assert_eq!(open_sends(subject).await, [(pending.clone(), stored.clone())]);
    sends.note(&tag(1), &PendingSend { queued: None, ..pending }).await.unwrap();
    assert_eq!(open_sends(subject).await, []);
    assert_eq!(sends.request(&key("a")).await.unwrap(), Some(stored));
    subject.clock.advance(KEPT);
    assert_eq!(sends.request(&key("a")).await.unwrap(), None);
}

/// More open sends than a page holds are all found, and none that is settled.
pub async fn finds_every_open_send(subject: &Subject) {
    let mut tags = Vec::new();
    for number in 0..1100_u32 {
        let tag = SendTag::parse(&format!("AZ3kq0p2cXKkzqv{number:06}w")).unwrap();
        let id = number.to_string();
        let record = RequestRecord { tag: tag.clone(), ..record(subject, 1, Outcome::Sending) };
        let pending = pending(subject, &id);
        sends(subject).claim(&key(&id), &record, Some(&pending), Precondition::Absent).await.unwrap();
        tags.push(tag);
    }
    let mut open = open_tags(subject).await;
    open.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(open, tags);
}

/// After the time that requests are kept an id is free again, and nothing is pending.
pub async fn forgets_after_its_time(subject: &Subject) {
    won(subject, "a", 1).await;
    subject.clock.advance(KEPT);
    assert_eq!(sends(subject).request(&key("a")).await.unwrap(), None);
    assert_eq!(open_tags(subject).await, []);
    won(subject, "a", 2).await;
    assert_eq!(open_tags(subject).await, [tag(2)]);
}

/// Writes so often and then never again, as a process that is killed. Counts what it has read.
#[derive(Debug)]
pub struct Mortal {
    state: Arc<dyn KeyedState>,
    writes_left: AtomicUsize,
    write_ms: AtomicU64,
    bytes_read: AtomicUsize,
}

impl Mortal {
    /// Writes so often to this state.
    pub fn new(state: Arc<dyn KeyedState>, writes: usize) -> Arc<Self> {
        let writes_left = AtomicUsize::new(writes);
        Arc::new(Self { state, writes_left, write_ms: AtomicU64::new(0), bytes_read: AtomicUsize::new(0) })
    }

    /// Bytes of all values that were read.
    pub fn bytes_read(&self) -> usize {
        self.bytes_read.load(Ordering::SeqCst)
    }

    fn note<'e>(&self, entries: impl IntoIterator<Item = &'e Entry>) {
        let bytes = entries.into_iter().map(|entry| entry.value.len()).sum();
        self.bytes_read.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Writes so often from now on.
    pub fn allow(&self, writes: usize) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    /// Writes take so long from now on.
    pub fn slow_down(&self, write_ms: u64) {
        self.write_ms.store(write_ms, Ordering::SeqCst);
    }

    async fn write(&self) -> Result<(), StateError> {
        let write_ms = self.write_ms.load(Ordering::SeqCst);
        if write_ms > 0 {
            tokio::time::sleep(Duration::from_millis(write_ms)).await;
        }
        let left = self.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(|_| ()).map_err(|_| StateError::Busy)
    }
}

#[async_trait]
impl KeyedState for Mortal {
    async fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Entry>, StateError> {
        let entry = self.state.get(bucket, key).await?;
        self.note(&entry);
        Ok(entry)
    }

    async fn get_many(&self, bucket: Bucket, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, StateError> {
        self.state.get_many(bucket, keys).await
    }

    async fn put(&self, put: Put, precondition: Precondition) -> Result<u64, StateError> {
        self.write().await?;
        self.state.put(put, precondition).await
    }

    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StateError> {
        self.write().await?;
        self.state.put_all(puts).await
    }

    async fn delete(&self, bucket: Bucket, key: &[u8], only: Precondition) -> Result<bool, StateError> {
        self.write().await?;
        self.state.delete(bucket, key, only).await
    }

    async fn scan(
        &self,
        bucket: Bucket,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Entry)>, StateError> {
        let page = self.state.scan(bucket, after, limit).await?;
        self.note(page.iter().map(|(_, entry)| entry));
        Ok(page)
    }

    async fn sweep(&self) -> Result<u64, StateError> {
        self.state.sweep().await
    }
}

/// Killed after each write in turn: a claim that did not finish sent nothing and is open to nobody; one that did is in
/// doubt until its outcome is written, and not a moment longer.
pub async fn survives_a_crash_after_every_write(subject: &Subject) {
    for writes in 0..=4 {
        let id = writes.to_string();
        let number = u8::try_from(writes).unwrap();
        let dying = Sends::new(Mortal::new(Arc::clone(&subject.state), writes), KEPT);
        let (claim, pending) = (record(subject, number, Outcome::Sending), pending(subject, &id));
        let claimed = dying.claim(&key(&id), &claim, Some(&pending), Precondition::Absent).await;
        assert_eq!(claimed.is_ok(), writes >= 2, "{writes} writes: Meta is called only after both");
        if let Ok(Claimed::Won(revision)) = claimed {
            let accepted = record(subject, number, Outcome::Accepted(receipt(subject, None)));
            let settled = dying.settle_and_forget(&key(&id), &accepted, revision).await;
            assert_eq!(settled.is_ok(), writes >= 4, "{writes} writes: the outcome, then what is pending");
        }
        // The next process.
        assert_eq!(open_tags(subject).await.contains(&tag(number)), writes == 2, "{writes} writes");
        let stored = sends(subject).request(&key(&id)).await.unwrap();
        let is_settled = stored.map(|stored| stored.record.outcome.is_settled());
        // After one write it stands in one bucket only; here it is that of the pending sends.
        let expected = [None, None, Some(false), Some(true), Some(true)];
        assert_eq!(is_settled, expected[writes], "{writes} writes");
    }
}
