//! How far a message has come: from the queue of this gateway to the eyes of the user.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::event::MessageError;

/// The state of one message. The order is that in which a later word outweighs an earlier one, whatever order they
/// arrive in (reference 4.5): what proves more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageState {
    /// Waits here for its turn.
    Queued,
    /// Is being handed to Meta.
    Sending,
    /// Refused; it did not go out.
    Refused,
    /// Its time ran out here; it did not go out.
    Expired,
    /// It may have gone out: no later refusal or expiry proves that it did not.
    Unknown,
    /// Meta has taken it.
    Accepted,
    /// Meta has taken it and holds it back: it assesses or has paused the template (reference 2.4.6).
    Held,
    /// Left Meta's servers.
    Sent,
    /// Undeliverable. Greater than [`MessageState::Sent`], because Meta reports failures after it, and less than any proof
    /// of delivery.
    Failed,
    /// On the user's device; in a group, on one of them.
    Delivered,
    /// Shown to the user.
    Read,
    /// Voice message played.
    Played,
}

impl MessageState {
    /// Reads Meta's word; `None` for words that do not move the state (`deleted`, `warning`).
    pub fn from_status(word: &str) -> Option<Self> {
        match word {
            "sent" => Some(Self::Sent),
            "delivered" => Some(Self::Delivered),
            "read" => Some(Self::Read),
            "played" => Some(Self::Played),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }

    /// The state after another word on the message: the greater of the two.
    #[must_use]
    pub fn advance(self, next: Self) -> Self {
        self.max(next)
    }

    /// Whether nothing more is expected. A message that is unknown may still be settled by a status.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Refused | Self::Expired | Self::Failed | Self::Played)
    }

    /// Whether waiting for `wanted` has come to its end: it is reached or passed, or will never be.
    pub fn ends_wait_for(self, wanted: Self) -> bool {
        self >= wanted || self.is_final()
    }
}

/// Every state that a message is known to have been in, and when.
///
/// Merging two lives is a union, so that neither the order nor the number of reports matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageLife {
    reached: BTreeMap<MessageState, SystemTime>,
    error: Option<MessageError>,
}

impl MessageLife {
    /// A life of which one state is known; `error` says why, where the message failed.
    pub fn at(state: MessageState, time: SystemTime, error: Option<MessageError>) -> Self {
        let error = error.filter(|_| state == MessageState::Failed);
        Self { reached: BTreeMap::from([(state, time)]), error }
    }

    /// Everything that either knows. Of two reports of a state the earlier counts: in a group, the first member's.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        for (state, time) in other.reached {
            let known = self.reached.entry(state).or_insert(time);
            *known = time.min(*known);
        }
        self.error = self.error.into_iter().chain(other.error).min();
        self
    }

    /// The furthest state and its time; `None` while nothing is known.
    pub fn state(&self) -> Option<(MessageState, SystemTime)> {
        self.reached.last_key_value().map(|(state, time)| (*state, *time))
    }

    /// Every state that was reported, in their order; states that Meta passed over are absent.
    pub fn reached(&self) -> impl Iterator<Item = (MessageState, SystemTime)> {
        self.reached.iter().map(|(state, time)| (*state, *time))
    }

    /// Why Meta says it failed, whether or not it came further.
    pub fn error(&self) -> Option<&MessageError> {
        self.error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::MessageState::{
        Accepted, Delivered, Expired, Failed, Held, Played, Queued, Read, Refused, Sending, Sent, Unknown,
    };
    use super::*;

    /// Every order of the items.
    fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
        let Some((&first, rest)) = items.split_first() else { return vec![Vec::new()] };
        let with_first = |order: Vec<T>| {
            (0..=order.len()).map(move |place| {
                let mut order = order.clone();
                order.insert(place, first);
                order
            })
        };
        permutations(rest).into_iter().flat_map(with_first).collect()
    }

    fn life_at(state: MessageState) -> MessageLife {
        let error = MessageError { code: 131_026, title: format!("{state:?}"), details: String::new() };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(state as u64);
        MessageLife::at(state, time, Some(error))
    }

    #[test]
    fn every_order_of_reports_comes_to_the_same_end() {
        let cases: [(&[MessageState], MessageState); 8] = [
            (&[Sent, Delivered, Read, Played, Failed], Played),
            (&[Sent, Delivered, Failed], Delivered),
            (&[Sent, Failed], Failed),
            (&[Queued, Sending, Unknown, Sent, Delivered, Read], Read),
            (&[Sending, Accepted, Held, Failed, Sent], Failed),
            (&[Queued, Sending, Unknown, Expired, Refused], Unknown),
            (&[Queued, Sending, Expired], Expired),
            (&[Sending, Unknown, Accepted], Accepted),
        ];
        for (reports, end) in cases {
            let orders = permutations(reports);
            assert_eq!(orders.len(), (1..=reports.len()).product::<usize>());
            let merged = |order: &[MessageState]| {
                order.iter().copied().map(life_at).fold(MessageLife::default(), MessageLife::merge)
            };
            let expected = merged(reports);
            assert_eq!(expected.state().unwrap().0, end);
            for order in orders {
                assert_eq!(order.iter().copied().reduce(MessageState::advance), Some(end), "{order:?}");
                let twice = merged(&order).merge(merged(&order));
                assert_eq!(twice, expected, "{order:?}");
            }
        }
    }

    #[test]
    fn of_two_reports_of_a_state_the_earlier_counts() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (early, late) = (MessageLife::at(Read, at(1), None), MessageLife::at(Read, at(2), None));
        assert_eq!(early.clone().merge(late.clone()), early);
        assert_eq!(late.merge(early.clone()), early);
    }

    #[test]
    fn a_wait_ends_where_nothing_more_comes() {
        for (state, wanted, ends) in [
            (Sent, Delivered, false),
            (Delivered, Delivered, true),
            (Read, Delivered, true),
            (Delivered, Read, false),
            (Read, Played, false),
            (Failed, Played, true),
            (Refused, Sent, true),
            (Expired, Sent, true),
            (Unknown, Sent, false),
            (Held, Sent, false),
        ] {
            assert_eq!(state.ends_wait_for(wanted), ends, "{state:?}, waiting for {wanted:?}");
        }
    }
}
