//! Shows the user that a message was read, and optionally that an answer is being typed.

use crate::cloud_api::Client;
use crate::domain::failure::Failure;
use crate::domain::ids::{MessageId, PhoneNumberId};

use super::cloud_failure::repeatable;
use super::numbers::{self, Numbers};

/// Marks messages as read.
#[derive(Debug, Clone)]
pub struct MarkRead {
    client: Client,
    numbers: Numbers,
}

/// Why a message was not marked. Repeating it does no harm.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number is not usable.
    #[error(transparent)]
    Number(#[from] numbers::Error),
    /// Meta refused it, could not be reached, or did not answer.
    #[error("{}", .0.message)]
    Failed(Box<Failure>),
}

impl MarkRead {
    /// Marks through this client, for these numbers.
    pub fn new(client: Client, numbers: Numbers) -> Self {
        Self { client, numbers }
    }

    /// Marks one message, and all before it in its conversation.
    pub async fn mark(
        &self,
        number: &PhoneNumberId,
        message: &MessageId,
        is_typing: bool,
    ) -> Result<(), Error> {
        let access_token = self.numbers.access_token(number)?;
        let marked = self.client.mark_read(&access_token, number, message, is_typing).await;
        marked.map_err(|cause| Error::Failed(Box::new(repeatable(&cause))))
    }
}
