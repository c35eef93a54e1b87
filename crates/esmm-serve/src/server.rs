//! Connections: accepted, limited, served, closed when idle, drained.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::activity::Activity;
use crate::http::router;
use crate::service::Service;

/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves until `end` is there, then lets requests under way finish, as long as the limits allow.
///
/// # Errors
/// A listener that is gone.
pub async fn serve(
    service: Arc<Service>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = router(service.clone());
    let places = Arc::new(Semaphore::new(service.limits.connections));
    let mut builder = Builder::new(TokioExecutor::new());
    // A client may say that it has sent all, and still wait for its answer.
    builder.http1().timer(TokioTimer::new()).half_close(true);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256);
    let graceful = GracefulShutdown::new();
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, or a client that is gone already: others may still come.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are small, and waiting for more would cost 40 ms.
        let _ = stream.set_nodelay(true);
        let (builder, router, tls) = (builder.clone(), router.clone(), tls.clone());
        let (counted, watcher) = (service.metrics.connected(), graceful.watcher());
        let idle = service.limits.idle;
        tokio::spawn(async move {
            let _held = (place, counted);
            match tls {
                None => connection(&builder, stream, router, watcher, idle).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(&builder, stream, router, watcher, idle).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS"),
                    Err(_) => tracing::debug!("TLS: the handshake took too long"),
                },
            }
        });
    }
    service.drain();
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(service.limits.drain) => tracing::warn!("requests under way were cut off"),
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Serves one connection, until it has had no request under way for as long as `idle`: that ends clients that send nothing, a
/// header byte by byte, or do not read their answer.
async fn connection(
    builder: &Builder<TokioExecutor>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    watcher: Watcher,
    idle: Duration,
) {
    let activity = Arc::new(Activity::new());
    let service = {
        let activity = activity.clone();
        service_fn(move |request: hyper::Request<Incoming>| {
            let (router, busy) = (router.clone(), activity.begin());
            async move {
                let answer = router.oneshot(request.map(Body::new)).await;
                drop(busy);
                answer
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let mut connection = pin!(watcher.watch(connection));
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    // A client that went away, or spoke something else: not the service's fault.
                    tracing::debug!(%error, "connection");
                }
                return;
            }
            () = tokio::time::sleep(activity.rest(idle)) => {
                if activity.rest(idle).is_zero() {
                    return;
                }
            }
        }
    }
}
