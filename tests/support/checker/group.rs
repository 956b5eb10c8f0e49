//! Workers of a named subscription, and everything they were given and said.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use whatsapp_gateway::contract::v1::ack_outcome::Outcome;
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;
use whatsapp_gateway::contract::v1::{
    AckOutcome, AcknowledgeEventsRequest, ReceivedEvent, SubscribeEventsRequest,
};

use super::verdicts::{Answer, Delivery};
use super::{PAUSE, Places, SILENCE};
use crate::support::gateway::Client;
use crate::support::subscriber::position;
use crate::support::worker::{done, subject, work};
use crate::support::{Rng, Subscriber};

/// What a worker does with an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// Says so.
    Say(Outcome),
    /// Is gone, with all it has in hand.
    Die,
}

/// A deed that a worker decides on.
pub type Decide = Arc<dyn Fn(&ReceivedEvent, &mut Rng) -> Deed + Send + Sync>;

/// Every event is done at once.
pub fn diligent() -> Decide {
    Arc::new(|_, _| Deed::Say(done()))
}

/// Where a worker says what became of events: by one connection to any gateway, as long as that works.
#[derive(Default)]
struct Line(tokio::sync::Mutex<Option<Client>>);

/// A subscription and its workers.
#[derive(Clone)]
pub struct Group {
    name: String,
    places: Places,
    decide: Decide,
    outstanding_max: u32,
    journal: Arc<Mutex<Vec<Delivery>>>,
    started: Instant,
}

impl Group {
    pub fn new(name: &str, places: &Places, decide: Decide) -> Self {
        let (journal, started) = (Arc::default(), Instant::now());
        Self { name: name.to_owned(), places: places.clone(), decide, outstanding_max: 100, journal, started }
    }

    /// With so many events in a worker's hands at most.
    pub fn with_outstanding(self, outstanding_max: u32) -> Self {
        Self { outstanding_max, ..self }
    }

    /// So many workers until told to stop; who dies is followed by another one.
    pub fn work(&self, workers: u64, stop: &CancellationToken) -> JoinSet<u64> {
        let mut tasks = JoinSet::new();
        for seed in 0..workers {
            let (group, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move { group.worker(seed, stop).await });
        }
        tasks
    }

    /// What was delivered so far.
    pub fn journal(&self) -> Vec<Delivery> {
        self.journal.lock().unwrap().clone()
    }

    /// How many events are done as far as their workers know.
    pub fn done(&self) -> usize {
        let is_done = |delivery: &&Delivery| matches!(delivery.answer, Answer::Done { .. });
        self.journal.lock().unwrap().iter().filter(is_done).count()
    }

    /// Waits until so many are done.
    pub async fn until_done(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_mins(2);
        while self.done() < count {
            assert!(Instant::now() < deadline, "only {} of {count} are done", self.done());
            sleep(PAUSE).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    /// Works, and returns how often it has died.
    async fn worker(&self, seed: u64, stop: CancellationToken) -> u64 {
        let mut rng = Rng::new(seed);
        let mut deaths = 0;
        let (line, mut saying) = (Arc::<Line>::default(), JoinSet::new());
        while !stop.is_cancelled() {
            let request =
                SubscribeEventsRequest { max_outstanding_events: self.outstanding_max, ..work(&self.name) };
            let mut client = tokio::select! {
                client = self.places.client(&mut rng) => client,
                () = stop.cancelled() => break,
            };
            let opening = timeout(SILENCE, Subscriber::try_open(&mut client, request)).await;
            if let Ok(Ok(mut stream)) = opening {
                let mut mine = Vec::new();
                let has_died = tokio::select! {
                    has_died = self.life(&mut stream, &mut mine, &mut rng, (&line, &mut saying)) => has_died,
                    () = stop.cancelled() => true,
                };
                self.ended(&mine, has_died);
                // Its gateway may have left, and the line with it.
                line.broken().await;
                deaths += u64::from(has_died);
            }
            sleep(PAUSE).await;
        }
        saying.join_all().await;
        deaths
    }

    /// One stream's; whether its worker has left it.
    async fn life(
        &self,
        stream: &mut Subscriber,
        mine: &mut Vec<usize>,
        rng: &mut Rng,
        (line, saying): (&Arc<Line>, &mut JoinSet<()>),
    ) -> bool {
        loop {
            while saying.try_join_next().is_some() {}
            let batch = match timeout(SILENCE, stream.next_frame()).await {
                Ok(Ok(Some(Frame::Events(batch)))) => batch,
                Ok(Ok(Some(_))) => continue,
                Ok(Ok(None) | Err(_)) => return false,
                // Not answered by anybody: a heartbeat is due long since.
                Err(_) => return true,
            };
            let first = self.note(&batch.events, mine);
            let mut outcomes = Vec::new();
            for (received, index) in batch.events.iter().zip(first..) {
                match (self.decide)(received, rng) {
                    Deed::Say(outcome) => outcomes.push((index, received.ack_id.clone(), outcome)),
                    Deed::Die => return true,
                }
            }
            if !outcomes.is_empty() {
                // It works on meanwhile.
                let (group, line, rng) = (self.clone(), Arc::clone(line), Rng::new(rng.next()));
                let sent = self.noted_as_said(&outcomes);
                saying.spawn(async move { group.say(outcomes, sent, &line, rng).await });
            }
        }
    }

    fn note(&self, events: &[ReceivedEvent], mine: &mut Vec<usize>) -> usize {
        let at = self.now();
        let mut journal = self.journal.lock().unwrap();
        let first = journal.len();
        journal.extend(events.iter().map(|received| {
            let event = received.event.as_ref().unwrap();
            Delivery {
                key: event.conversation_key.clone(),
                event: event.id.clone(),
                message: subject(received).to_owned(),
                position: position(&event.cursor),
                attempt: received.delivery_attempt,
                at,
                ended: None,
                answer: Answer::None,
            }
        }));
        mine.extend(first..journal.len());
        first
    }

    /// From now on it may have been heard.
    fn noted_as_said(&self, outcomes: &[(usize, String, Outcome)]) -> u64 {
        let sent = self.now();
        let mut journal = self.journal.lock().unwrap();
        for (index, _, outcome) in outcomes {
            let answer = if *outcome == done() { Answer::Unknown { sent } } else { Answer::NotDone { sent } };
            journal[*index].answer = answer;
        }
        sent
    }

    async fn say(&self, outcomes: Vec<(usize, String, Outcome)>, sent: u64, line: &Line, rng: Rng) {
        let request = AcknowledgeEventsRequest {
            subscription: self.name.clone(),
            outcomes: outcomes
                .iter()
                .map(|(_, ack_id, outcome)| AckOutcome {
                    ack_id: ack_id.clone(),
                    outcome: Some(outcome.clone()),
                })
                .collect(),
        };
        let mut client = line.client(&self.places, rng).await;
        let answer = timeout(Duration::from_secs(10), client.acknowledge_events(request)).await;
        let Ok(Ok(answer)) = answer else { return line.broken().await };
        let failures = answer.into_inner().failures;
        let answered = self.now();
        let mut journal = self.journal.lock().unwrap();
        for (index, ack_id, outcome) in outcomes {
            let is_refused = failures.iter().any(|failure| failure.ack_id == ack_id);
            if is_refused {
                journal[index].answer = Answer::Refused { sent };
            } else if outcome == done() {
                journal[index].answer = Answer::Done { sent, answered };
            }
        }
    }

    /// A stream has ended. What the gateway ended may have been somebody else's since it was delivered; what its worker
    /// left was its own until now.
    fn ended(&self, mine: &[usize], has_left: bool) {
        let now = self.now();
        let mut journal = self.journal.lock().unwrap();
        for index in mine {
            let delivery = &mut journal[*index];
            let is_over = matches!(delivery.answer, Answer::Done { .. } | Answer::NotDone { .. });
            if !is_over {
                delivery.ended = Some(if has_left { now } else { delivery.at });
            }
        }
    }
}

impl Line {
    async fn client(&self, places: &Places, mut rng: Rng) -> Client {
        let mut client = self.0.lock().await;
        match &*client {
            Some(client) => client.clone(),
            None => client.insert(places.client(&mut rng).await).clone(),
        }
    }

    /// The gateway of the line is gone, or cannot answer.
    async fn broken(&self) {
        *self.0.lock().await = None;
    }
}
