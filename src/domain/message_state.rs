//! How far a sent message has come.

/// The state of one message, in the order in which it normally advances (reference 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// Left Meta's servers.
    Sent,
    /// On the user's device.
    Delivered,
    /// Shown to the user.
    Read,
    /// Voice message played.
    Played,
    /// Refused or undeliverable; final.
    Failed,
}

impl MessageState {
    /// Reads Meta's word; `None` for words that do not move the state (`deleted`, `warning`, payments).
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

    /// Meta's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Played => "played",
            Self::Failed => "failed",
        }
    }

    /// The state after a status, whatever order statuses arrive in: the further of the two. `Failed` outranks
    /// `Sent`, because Meta reports failures after `sent`, and yields to proof of delivery.
    #[must_use]
    pub fn advance(self, next: Self) -> Self {
        if next.rank() > self.rank() { next } else { self }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Sent => 0,
            Self::Failed => 1,
            Self::Delivered => 2,
            Self::Read => 3,
            Self::Played => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        use MessageState::{Delivered, Failed, Played, Read, Sent};
        let cases: [(&[MessageState], MessageState); 4] = [
            (&[Sent, Delivered, Read, Played], Played),
            (&[Read, Sent, Delivered], Read),
            (&[Failed, Sent], Failed),
            (&[Delivered, Failed], Delivered),
        ];
        for (arrivals, end) in cases {
            for states in [arrivals.to_vec(), arrivals.iter().rev().copied().collect()] {
                let state = states.iter().copied().reduce(MessageState::advance);
                assert_eq!(state, Some(end), "{states:?}");
            }
        }
    }
}
