//! Delivers webhooks by HTTP: signed, retried on anything but 200, at once and then ever more slowly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account::Delays;
use super::outbox::{Attempt, Post};
use super::world::World;
use super::{Error, rfc3339};

/// The client for webhooks. It follows no redirects, for Meta takes them for failures.
pub(super) fn client() -> Result<reqwest::Client, Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(64)
        .build()
        .map_err(Error::Client)
}

/// Delivers until told to stop.
pub(super) async fn run(
    world: &Arc<World>,
    client: &reqwest::Client,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        while let Some(url) = world.webhook_url() {
            let Some(post) = world.outbox.take(world.webhook_concurrency()) else { break };
            tracker.spawn(deliver(Arc::clone(world), client.clone(), url, post, stop.clone()));
        }
        tokio::select! {
            () = world.outbox.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One attempt; before the next one this webhook steps aside for its pause.
async fn deliver(
    world: Arc<World>,
    client: reqwest::Client,
    url: String,
    mut post: Post,
    stop: CancellationToken,
) {
    let delays = world.delays();
    let result = tokio::select! {
        result = attempt(&client, &url, &post, delays.webhook_timeout) => result,
        () = stop.cancelled() => Err("the simulator stopped".to_owned()),
    };
    let attempt =
        Attempt { time: rfc3339(world.now()), status: result.as_ref().ok().copied(), error: result.err() };
    let is_done = attempt.is_success();
    let gives_up = !post.may_retry || post.attempts + 1 >= delays.attempts_max;
    world.outbox.attempted(&mut post, attempt, gives_up);
    if is_done || gives_up {
        world.outbox.finish(&post);
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(pause(&delays, post.attempts)) => world.outbox.put_back(post),
        () = stop.cancelled() => {}
    }
}

/// The pause after so many attempts: none after the first, then each twice the one before.
fn pause(delays: &Delays, attempts: u32) -> Duration {
    match attempts {
        0 | 1 => Duration::ZERO,
        _ => {
            let factor = 2_u32.saturating_pow(attempts - 2);
            delays.retry_first.saturating_mul(factor).min(delays.retry_longest)
        }
    }
}

async fn attempt(client: &reqwest::Client, url: &str, post: &Post, timeout: Duration) -> Result<u16, String> {
    let mut request = client
        .post(url)
        .timeout(timeout)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, "facebookexternalua")
        .body(Bytes::clone(&post.body));
    if let Some(signature) = &post.signature {
        request = request.header("x-hub-signature-256", signature);
    }
    let response = request.send().await.map_err(|error| cause(&error))?;
    let status = response.status().as_u16();
    // The body is read so that the connection can be used again; its content does not matter.
    match response.bytes().await {
        Ok(_) => Ok(status),
        Err(error) => Err(cause(&error)),
    }
}

/// The innermost cause: the outer ones only repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let delays = Delays {
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_millis(700),
            ..Delays::default()
        };
        let pauses: Vec<u128> = (1..7).map(|attempts| pause(&delays, attempts).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 700, 700]);
    }
}
