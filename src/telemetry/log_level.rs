//! Which log lines are written, also changed while the process runs.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::info;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::reload;

use super::Error;
use super::traces::is_passed_over;

/// Libraries that say much at `debug`, some of it about headers: they stay at `info` unless named in the log level. The client
/// of NATS says four times a second at `info` that a server is away, which the engine says once.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,reqwest=info,rustls=info,tonic=info,tower=info,\
     opentelemetry=info,async_nats=warn";

/// Whether any target is logged at `debug`, and so shows the spans of that level.
static SHOWS_DEBUG: AtomicBool = AtomicBool::new(true);

/// Whether nobody sees spans of level `debug` here: the logs do not, and the trace is not exported. Whoever makes one for every
/// call asks first: a span that both of its layers refuse is made all the same.
pub fn is_unseen() -> bool {
    !SHOWS_DEBUG.load(Ordering::Relaxed) && is_passed_over()
}

/// The log level of the process. Clones are the same one.
#[derive(Clone)]
pub struct LogLevel {
    text: Arc<Mutex<String>>,
    apply: Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevel").field(&self.text()).finish()
    }
}

impl LogLevel {
    /// Starts with this level; the filter is for the layer that writes lines.
    pub(super) fn new<S: 'static>(text: &str) -> Result<(Self, reload::Layer<EnvFilter, S>), Error> {
        let filter = log_filter(text)?;
        note_debug(&filter);
        let (filter, handle) = reload::Layer::new(filter);
        let apply = Arc::new(move |filter| handle.reload(filter));
        Ok((Self { text: Arc::new(Mutex::new(text.to_owned())), apply }, filter))
    }

    /// What is written at present, as it was set.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes other lines from now on, until the process ends. An error changes nothing. The old level decides whether
    /// the change itself is a line.
    pub fn set(&self, text: &str) -> Result<(), Error> {
        let filter = log_filter(text)?;
        let mut current = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        info!(from = *current, to = text, "the log level is changed");
        note_debug(&filter);
        (self.apply)(filter).map_err(|error| Error::LogLevel(error.to_string()))?;
        text.clone_into(&mut current);
        Ok(())
    }
}

fn note_debug(filter: &EnvFilter) {
    let shows_debug = filter.max_level_hint().is_none_or(|most| most >= LevelFilter::DEBUG);
    SHOWS_DEBUG.store(shows_debug, Ordering::Relaxed);
}

/// Says what is wrong with a log level, if anything.
pub fn check_log_level(text: &str) -> Result<(), String> {
    log_filter(text).map(drop).map_err(|error| error.to_string())
}

pub(super) fn log_filter(level: &str) -> Result<EnvFilter, Error> {
    let wrong = |what: String| {
        Error::LogLevel(format!(
            "{what}; give a level (off, error, warn, info, debug, trace), or levels per target: \
             \"info,whatsapp_gateway::web=debug\""
        ))
    };
    // A word that is no level would be taken for a target, of which everything is written, and of all else nothing.
    let is_level = |word: &str| !word.trim().is_empty() && word.trim().parse::<LevelFilter>().is_ok();
    let is_loose = |word: &&str| !word.contains(['=', '[', ']', '{', '}']) && !is_level(word);
    if let Some(word) = level.split(',').find(is_loose) {
        return Err(wrong(format!("{:?} is no level", word.trim())));
    }
    // The later directive for a target wins.
    EnvFilter::builder().parse(format!("{QUIET},{level}")).map_err(|error| wrong(error.to_string()))
}
