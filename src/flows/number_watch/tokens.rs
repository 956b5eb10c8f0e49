//! When access tokens expire, for the metrics. Meta knows; nothing here depends on it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use metrics::gauge;
use secrecy::{ExposeSecret, SecretString};
use tracing::debug;

use super::Inner;
use super::reads::READ_INTERVAL;
use crate::cloud_api::TokenStatus;
use crate::telemetry::names;
use crate::tenants::{TokenHash, Waba};

impl Inner {
    /// Asks about each token that is new, and about all of them every hour.
    pub(super) fn read_tokens(self: &Arc<Self>) {
        let now = self.now();
        for (waba, secrets) in self.numbers.tokens() {
            let token = TokenHash::of(waba.access_token.expose_secret());
            let mut state = self.state();
            let asked = state.tokens.get(&waba.id);
            if asked.is_none_or(|(other, again_at)| *other != token || *again_at <= now) {
                state.tokens.insert(Arc::clone(&waba.id), (token, now.saturating_add(READ_INTERVAL)));
                self.shutdown.spawn_background("read token", Arc::clone(self).read_token(waba, secrets));
            }
        }
    }

    /// Asks with the secrets of the app, one after the other: while they are being replaced, Meta may know only one.
    async fn read_token(self: Arc<Self>, waba: Arc<Waba>, app_secrets: Vec<SecretString>) {
        for app_secret in app_secrets {
            match self.client.read_token((&waba.app_id, &app_secret), &waba.access_token).await {
                Ok(status) => {
                    let gauge = gauge!(names::ACCESS_TOKEN_EXPIRY, names::WABA => waba.id.to_string());
                    return gauge.set(match status {
                        TokenStatus::ExpiresAt(time) => {
                            time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
                        }
                        TokenStatus::NeverExpires => f64::INFINITY,
                        TokenStatus::Invalid => 0.0,
                    });
                }
                Err(error) => debug!(waba.id = %waba.id, %error, "when a token expires could not be read"),
            }
        }
    }
}
