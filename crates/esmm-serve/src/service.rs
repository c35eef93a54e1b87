//! The state of the service: a model that can be exchanged, limits, counters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::http::StatusCode;
use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::failure::Failure;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::model::{Loaded, ModelSource, fingerprint};
use crate::rank::run::Worker;

/// A panic while a request was computed.
struct Fault;

/// A service without its network: what all requests share.
#[derive(Debug)]
pub struct Service {
    source: ModelSource,
    model: RwLock<Arc<Loaded>>,
    pub(crate) limits: Limits,
    /// What a request must show; `None`: nothing.
    pub(crate) token: Option<String>,
    pub(crate) metrics: Metrics,
    slots: Arc<Semaphore>,
    workers: Mutex<Vec<Worker>>,
    /// Held while a model is loaded: one at a time.
    loading: AsyncMutex<String>,
    last_failure: Mutex<Option<String>>,
    draining: AtomicBool,
}

impl Service {
    /// Loads the model.
    ///
    /// # Errors
    /// One line about the run directory or the items.
    pub fn open(source: ModelSource, limits: Limits, token: Option<String>) -> Result<Self, String> {
        let seen = source_fingerprint(&source);
        let loaded = Loaded::load(&source)?;
        let metrics = Metrics::default();
        metrics.reloaded(Ok(&loaded));
        tracing::info!(
            model = loaded.name,
            version = loaded.version,
            seconds = loaded.load_seconds,
            "loaded"
        );
        Ok(Self {
            source,
            model: RwLock::new(Arc::new(loaded)),
            limits,
            token,
            metrics,
            slots: Arc::new(Semaphore::new(limits.requests)),
            workers: Mutex::default(),
            loading: AsyncMutex::new(seen),
            last_failure: Mutex::default(),
            draining: AtomicBool::new(false),
        })
    }

    /// The model that answers now; requests under way keep the one that they began with.
    pub(crate) fn model(&self) -> Arc<Loaded> {
        self.model.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether new requests are welcome.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Says to whoever asks for readiness that the service ends.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why the newest attempt to load another model failed, if it did.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses a body with more candidates than are allowed.
    pub(crate) fn admit(&self, candidates: usize) -> Result<(), Failure> {
        if candidates <= self.limits.candidates {
            return Ok(());
        }
        self.metrics.refused("candidates");
        let message = format!(
            "{candidates} candidates, at most {} are allowed in one body (--max-candidates)",
            self.limits.candidates
        );
        Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message))
    }

    /// Computes with the current model, if not too much is computed already. What takes `long` gets a thread of its own.
    pub(crate) async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        long: bool,
        work: impl FnOnce(&Loaded, &mut Worker) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.metrics.refused("busy");
            return Err(Failure::busy(self.limits.requests));
        };
        let guard = self.metrics.under_way();
        let service = self.clone();
        let run = move || {
            let _held = (slot, guard);
            let model = service.model();
            let mut worker = service.worker();
            // A panic is a fault of ours: it costs this request, and a worker's memory, but nobody else's connection.
            let result = catch_unwind(AssertUnwindSafe(|| work(&model, &mut worker))).map_err(|_| Fault)?;
            service.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            Ok(result)
        };
        let result = match long {
            false => run(),
            true => tokio::task::spawn_blocking(run).await.unwrap_or(Err(Fault)),
        };
        let result = result.map_err(|Fault| {
            self.metrics.refused("fault");
            let message = "a fault of the service: its log has more";
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?;
        result.inspect_err(|failure| {
            if failure.status == StatusCode::BAD_REQUEST {
                self.metrics.refused("bad request");
            }
        })
    }

    fn worker(&self) -> Worker {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Loads the run directory again and exchanges the models; on failure the old one goes on.
    ///
    /// # Errors
    /// One line about what is wrong.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Arc<Loaded>, String> {
        let mut seen = self.loading.lock().await;
        *seen = source_fingerprint(&self.source);
        let loaded = load_aside(self.source.clone()).await;
        let mut failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                self.metrics.reloaded(Ok(&loaded));
                tracing::info!(version = loaded.version, seconds = loaded.load_seconds, "reloaded");
                *self.model.write().unwrap_or_else(PoisonError::into_inner) = loaded.clone();
                *failure = None;
                Ok(loaded)
            }
            Err(reason) => {
                self.metrics.reloaded(Err(()));
                tracing::warn!(reason, "the old model goes on");
                *failure = Some(reason.clone());
                Err(reason)
            }
        }
    }

    /// Loads another model once its files have stayed as they are for a whole interval.
    pub async fn watch(self: Arc<Self>, interval: std::time::Duration) {
        let mut last = source_fingerprint(&self.source);
        loop {
            tokio::time::sleep(interval).await;
            let now = source_fingerprint(&self.source);
            let settled = now == last;
            last = now.clone();
            let is_new = settled && *self.loading.lock().await != now;
            if is_new {
                // It has logged and counted what went wrong, and these files are not tried again.
                let _ = self.reload().await;
            }
        }
    }
}

/// Of 99, about the priority of a process that was started with `nice`.
const ASIDE: u8 = 23;

/// Loads a model on a thread of its own, which gives way to those that answer requests.
async fn load_aside(source: ModelSource) -> Result<Loaded, String> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let load = move || {
        if let Ok(aside) = ThreadPriorityValue::try_from(ASIDE) {
            // Where the system refuses, requests take a little longer while a model is loaded.
            let _ = set_current_thread_priority(ThreadPriority::Crossplatform(aside));
        }
        // Nobody listens any more where the service ends meanwhile.
        let _ = tell.send(Loaded::load(&source));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(load).map_err(|error| error.to_string())?;
    told.await
        .unwrap_or_else(|_| Err("a fault of the service while it was read: its log has more".to_owned()))
}

/// Identity of everything that a load would read.
fn source_fingerprint(source: &ModelSource) -> String {
    let folder = std::fs::canonicalize(&source.run_dir).unwrap_or_else(|_| source.run_dir.clone());
    let mut text = fingerprint(&folder);
    if let Some(items) = &source.items {
        for path in items.paths.iter().flat_map(|path| expanded(path)) {
            if let Ok(metadata) = std::fs::metadata(&path) {
                text.push_str(&format!("|{}:{:?}", metadata.len(), metadata.modified().ok()));
            }
        }
    }
    text
}

/// The files of a glob; a path that is none stands for itself.
fn expanded(path: &str) -> Vec<PathBuf> {
    let found: Vec<PathBuf> = glob::glob(path).into_iter().flatten().filter_map(Result::ok).collect();
    if found.is_empty() { vec![PathBuf::from(path)] } else { found }
}
