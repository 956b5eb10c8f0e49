//! Shows the user that a message was read, and optionally that an answer is being typed.

use crate::cloud_api::Client;
use crate::domain::ids::{MessageId, PhoneNumberId};

use super::failed_call::Error;
use super::numbers::Numbers;

/// Marks messages as read.
#[derive(Debug, Clone)]
pub struct MarkRead {
    client: Client,
    numbers: Numbers,
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
        Ok(self.client.mark_read(&access_token, number, message, is_typing).await?)
    }
}
