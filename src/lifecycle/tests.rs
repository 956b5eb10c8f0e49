use std::sync::atomic::{AtomicU8, Ordering};

use tokio::time::Instant;

use super::*;

const BUDGETS: Budgets = Budgets { delay: Duration::from_secs(5), drain: Duration::from_secs(20) };

fn silent_exit() -> Shutdown {
    Shutdown::with_exit(|_| {})
}

fn run(shutdown: &Shutdown) -> (mpsc::Sender<Signal>, impl Future<Output = u8> + use<>) {
    let (sender, receiver) = mpsc::channel(2);
    let shutdown = shutdown.clone();
    (sender, async move { shutdown.run(receiver, BUDGETS).await })
}

#[tokio::test(start_paused = true)]
async fn a_signal_walks_through_delay_and_drain() {
    let shutdown = silent_exit();
    let (leaving, drain) = (shutdown.leaving().clone(), shutdown.drain().clone());
    let start = Instant::now();
    let request = shutdown.spawn("request", async move {
        drain.cancelled().await;
        let drained_at = start.elapsed();
        sleep(Duration::from_secs(3)).await;
        drained_at
    });
    let (signals, run) = run(&shutdown);
    signals.send(Signal::Terminate).await.unwrap();
    assert!(!leaving.is_cancelled());
    assert_eq!(run.await, EXIT_OK);
    assert!(leaving.is_cancelled());
    assert_eq!(request.await.unwrap(), BUDGETS.delay);
    assert_eq!(start.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_what_does_not_end() {
    let shutdown = silent_exit();
    let stop = shutdown.stop().clone();
    shutdown.spawn("stubborn", async move { stop.cancelled().await });
    let start = Instant::now();
    let (signals, run) = run(&shutdown);
    signals.send(Signal::Interrupt).await.unwrap();
    assert_eq!(run.await, EXIT_OK);
    assert_eq!(start.elapsed().as_secs(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ignores_the_stop_is_given_up() {
    let shutdown = silent_exit();
    shutdown.spawn("deaf", std::future::pending::<()>());
    let start = Instant::now();
    let (signals, run) = run(&shutdown);
    signals.send(Signal::Terminate).await.unwrap();
    run.await;
    assert_eq!(start.elapsed().as_secs(), 26);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_cuts_at_once() {
    for second_after in [1, 10] {
        let shutdown = silent_exit();
        let stop = shutdown.stop().clone();
        shutdown.spawn("stubborn", async move { stop.cancelled().await });
        let start = Instant::now();
        let (signals, run) = run(&shutdown);
        signals.send(Signal::Terminate).await.unwrap();
        let again = async {
            sleep(Duration::from_secs(second_after)).await;
            signals.send(Signal::Terminate).await.unwrap();
        };
        tokio::join!(run, again);
        assert_eq!(start.elapsed().as_secs(), second_after);
    }
}

#[tokio::test(start_paused = true)]
async fn background_tasks_run_until_the_stop_and_hold_nothing_up() {
    let shutdown = silent_exit();
    let background = shutdown.spawn_background("upkeep", std::future::pending::<()>());
    let start = Instant::now();
    let (signals, run) = run(&shutdown);
    signals.send(Signal::Terminate).await.unwrap();
    run.await;
    assert_eq!(background.await.unwrap(), None);
    assert_eq!(start.elapsed().as_secs(), 5, "the drain ends as soon as nothing is open");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_part_ends_the_process_with_a_failure() {
    let shutdown = silent_exit();
    let part = shutdown.spawn("part", async { panic!("lost") });
    let (_signals, run) = run(&shutdown);
    assert_eq!(run.await, EXIT_FAILED);
    assert!(part.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_request_ends_only_the_request() {
    let shutdown = silent_exit();
    let request = shutdown.spawn_request(async { panic!("lost") });
    assert!(request.await.unwrap_err().is_panic());
    assert!(!shutdown.is_leaving());
    assert_eq!(shutdown.exit_code(), EXIT_OK);
}

#[tokio::test(start_paused = true)]
async fn kept_work_outlives_its_caller_and_its_panic_is_its_own() {
    let shutdown = silent_exit();
    assert_eq!(shutdown.keep(async { 7 }).await, Some(7));
    assert_eq!(shutdown.keep(async { panic!("lost") }).await, None::<()>);
    assert!(!shutdown.is_leaving());

    let (done, is_done) = tokio::sync::oneshot::channel();
    let slow = shutdown.keep(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        done.send("done").unwrap();
    });
    // The caller begins to wait, and leaves.
    assert!(tokio::time::timeout(Duration::from_secs(1), slow).await.is_err());
    shutdown.inner.tasks.close();
    shutdown.inner.tasks.wait().await;
    assert_eq!(is_done.await, Ok("done"));
}

#[tokio::test]
async fn fatal_exits_soon_even_when_tasks_hang() {
    let code = Arc::new(AtomicU8::new(0));
    let seen = Arc::clone(&code);
    let shutdown = Shutdown::with_exit(move |exit| seen.store(exit, Ordering::SeqCst));
    shutdown.spawn("deaf", std::future::pending::<()>());
    shutdown.fatal("the log cannot be written");
    shutdown.fatal("again");
    assert!(shutdown.is_leaving());
    assert!(!shutdown.drain().is_cancelled(), "the ports say 503 to the end");
    assert_eq!(code.load(Ordering::SeqCst), 0, "open answers get time");
    tokio::time::sleep(FATAL_FLUSH * 2).await;
    assert_eq!(code.load(Ordering::SeqCst), EXIT_STORAGE);
    assert_eq!(shutdown.exit_code(), EXIT_STORAGE);
}
