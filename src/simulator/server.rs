//! The socket: an accept loop of its own, so that a fault can close a connection under the client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::graph;
use super::world::World;

/// Connections open at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 8_192;
/// How long open requests may take once the simulator stops.
const GRACE: Duration = Duration::from_secs(1);

/// The connection that a request came on.
#[derive(Debug, Clone, Default)]
pub(super) struct Connection(CancellationToken);

impl Connection {
    /// Closes it without another byte.
    pub(super) fn cut(&self) {
        self.0.cancel();
    }
}

/// Accepts connections until told to stop.
pub(super) async fn run(
    world: Arc<World>,
    listener: TcpListener,
    control: Router,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = stop.cancelled() => return,
        };
        let Some((stream, permit)) = accepted else { continue };
        let connection = serve(Arc::clone(&world), stream, control.clone(), stop.clone());
        tracker.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

/// The next connection. A failed accept is a connection that is gone already, or a lack of descriptors that
/// passes; neither ends the loop.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "simulator could not accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn serve(world: Arc<World>, stream: TcpStream, control: Router, stop: CancellationToken) {
    // Answers are small and must not wait for one another; without the option they only come later.
    drop(stream.set_nodelay(true));
    let connection = Connection::default();
    let cut = connection.0.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (world, connection, control) = (Arc::clone(&world), connection.clone(), control.clone());
        async move { Ok::<Response, Infallible>(respond(&world, &connection, control, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ends is the client's affair.
        _ = serving.as_mut() => return,
        // Dropping the connection closes the socket.
        () = cut.cancelled() => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = serving => {}
        () = tokio::time::sleep(GRACE) => {}
    }
}

async fn respond(
    world: &World,
    connection: &Connection,
    control: Router,
    request: Request<Incoming>,
) -> Response {
    let request = request.map(Body::new);
    if request.uri().path().starts_with("/_simulator") {
        return match control.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    }
    graph::serve(world, connection, request).await
}
