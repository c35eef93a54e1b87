//! Event files: what `tensorboard --logdir` watches.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::entry::Entry;
use crate::proto::{Event, GraphDef, SessionLog, SourceMetadata, Summary, What};
use crate::reader::event_files;
use crate::record;

/// The layout of the records that follow.
const FILE_VERSION: &str = "brain.Event:2";

/// Writes the events of one TensorBoard run, which is a folder.
///
/// A record is in the file as soon as it is added, so that TensorBoard shows it while the training goes on. Writing
/// never fails the caller: when the disk refuses, one warning is logged, what cannot be written is left out, and the
/// file keeps whole records only. Records that come when the disk takes them again are written.
///
/// # Examples
/// ```
/// use esmm_tensorboard::{Entry, EventWriter};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let run = folder.path().join("mine");
/// let mut writer = EventWriter::new(&run);
/// for step in 1..=3 {
///     writer.add(step, vec![Entry::scalar("loss/train", 1.0 / step as f64)]);
/// }
/// assert_eq!(std::fs::read_dir(&run).unwrap().count(), 1); // tensorboard --logdir runs
/// ```
#[derive(Debug)]
pub struct EventWriter {
    folder: PathBuf,
    start: Option<u64>,
    file: Option<EventFile>,
    warned: Arc<AtomicBool>,
}

impl EventWriter {
    /// A writer into `folder`. Folder and file are made when there is something to write.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), start: None, file: None, warned: Arc::default() }
    }

    /// What earlier files of the folder say about `step` and later steps is void, because a training goes on there.
    #[must_use]
    pub fn from_step(mut self, step: u64) -> Self {
        self.start = Some(step);
        self
    }

    /// One warning for all writers that share this.
    pub(crate) fn warning_once(mut self, warned: &Arc<AtomicBool>) -> Self {
        self.warned = warned.clone();
        self
    }

    /// Adds values of a step.
    pub fn add(&mut self, step: u64, entries: Vec<Entry>) {
        if !entries.is_empty() {
            let value = entries.into_iter().map(Entry::into_value).collect();
            self.write(step, What::Summary(Summary { value }));
        }
    }

    /// Adds the graph of a model.
    pub(crate) fn add_graph(&mut self, graph: &GraphDef) {
        self.write(0, What::Graph(graph.encode_to_vec()));
    }

    fn write(&mut self, step: u64, what: What) {
        let mut frame = Vec::new();
        append(&mut frame, step, what, None);
        if let Err(error) = self.try_write(&frame)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            log::warn!(
                "{}: TensorBoard events cannot be written: {error}; the training goes on without them",
                self.folder.display()
            );
        }
    }

    fn try_write(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => EventFile::create(&self.folder, self.start)?,
        };
        let written = file.append(frame);
        if written.is_ok() || file.is_whole {
            self.file = Some(file);
        }
        written
    }
}

/// An event file with whole records.
#[derive(Debug)]
struct EventFile {
    file: File,
    length: u64,
    is_whole: bool,
}

impl EventFile {
    /// A new file that comes after those that are there already.
    fn create(folder: &Path, start: Option<u64>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(next_name(folder));
        let file = File::options().create_new(true).append(true).open(&path)?;
        let mut file = Self { file, length: 0, is_whole: true };
        let mut frame = Vec::new();
        let source = SourceMetadata { writer: concat!("esmm-train ", env!("CARGO_PKG_VERSION")).to_owned() };
        append(&mut frame, 0, What::FileVersion(FILE_VERSION.to_owned()), Some(source));
        if let Some(step) = start {
            append(&mut frame, step, What::Session(SessionLog::START), None);
        }
        let written = file.append(&frame);
        if written.is_err() {
            // Nothing was in it yet; where it cannot be removed either, an empty file does no harm.
            let _ = fs::remove_file(&path);
        }
        written.map(|()| file)
    }

    /// Appends all of it or nothing.
    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(frame);
        match written {
            Ok(()) => self.length += frame.len() as u64,
            Err(_) => self.is_whole = self.file.set_len(self.length).is_ok(),
        }
        written
    }
}

/// A name of its own that sorts after the earlier ones, as TensorBoard reads them in that order: also where the clock was set
/// back since.
fn next_name(folder: &Path) -> String {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let now = since_1970();
    let earlier = event_files(folder).iter().filter_map(|path| time_of(path)).max();
    let after = earlier.and_then(|earlier| earlier.checked_add(Duration::from_nanos(1)));
    let at = after.map_or(now, |after| now.max(after));
    let process = std::process::id();
    let seconds = at.as_secs();
    let nanos = at.subsec_nanos();
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    format!("events.out.tfevents.{seconds:010}.{nanos:09}.{process}.{number}")
}

/// The time in the name of an event file of this writer.
fn time_of(path: &Path) -> Option<Duration> {
    let name = path.file_name()?.to_str()?.strip_prefix("events.out.tfevents.")?;
    let mut parts = name.split('.');
    let seconds = parts.next()?.parse().ok()?;
    let nanos = parts.next()?.parse().ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

fn append(frame: &mut Vec<u8>, step: u64, what: What, source: Option<SourceMetadata>) {
    let wall_time = since_1970().as_secs_f64();
    let step = i64::try_from(step).unwrap_or(i64::MAX);
    record::append(frame, &Event { wall_time, step, what: Some(what), source }.encode_to_vec());
}

/// The time, since 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{drop_from, has_events, steps_of};

    #[test]
    fn files_sort_in_their_order_though_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("events.out.tfevents.9999999998.999999999.1.0");
        fs::write(&later, "").unwrap();
        for _ in 0..2 {
            EventFile::create(folder.path(), None).unwrap();
        }
        let files = event_files(folder.path());
        assert_eq!((files.len(), &files[0]), (3, &later));
        assert!(files[1].to_str().unwrap().contains(".9999999999.000000000."), "{files:?}");
    }

    fn events(folder: &Path) -> Vec<Event> {
        let events = event_files(folder).into_iter().flat_map(|path| {
            let bytes = fs::read(path).unwrap();
            let (payloads, rest) = record::read(&bytes);
            assert!(rest.is_empty(), "{} bytes after the last record", rest.len());
            payloads.into_iter().map(|payload| Event::decode(payload).unwrap()).collect::<Vec<_>>()
        });
        events.collect()
    }

    #[test]
    fn a_file_begins_with_its_version_and_holds_what_was_added() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("a/b");
        let mut writer = EventWriter::new(&run).from_step(7);
        assert!(!run.exists(), "nothing was added yet");
        writer.add(7, vec![]);
        assert!(!run.exists());
        writer.add(7, vec![Entry::scalar("loss", 0.5)]);
        writer.add(8, vec![Entry::scalar("loss", 0.25)]);
        let found = events(&run);
        assert!(has_events(&run));
        assert_eq!(steps_of(&run, "lo").into_iter().collect::<Vec<_>>(), [7, 8]);
        assert!(steps_of(&run, "oss").is_empty());
        let what: Vec<_> = found.iter().map(|event| (event.step, event.what.clone().unwrap())).collect();
        let loss = |value| What::Summary(Summary { value: vec![Entry::scalar("loss", value).into_value()] });
        let version = What::FileVersion("brain.Event:2".into());
        let start = What::Session(SessionLog { status: 1 });
        assert_eq!(what, [(0, version), (7, start), (7, loss(0.5)), (8, loss(0.25))]);
        assert!(found.iter().all(|event| event.wall_time > 1.7e9), "{found:?}");
    }

    #[test]
    fn a_second_writer_has_a_file_of_its_own_that_sorts_behind() {
        let folder = tempfile::tempdir().unwrap();
        for step in 0..5 {
            EventWriter::new(folder.path()).add(step, vec![Entry::scalar("loss", 0.5)]);
        }
        let steps: Vec<i64> = events(folder.path()).chunks(2).map(|file| file[1].step).collect();
        assert_eq!(steps, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::write(&run, "in the way").unwrap();
        let mut writer = EventWriter::new(&run);
        writer.add(1, vec![Entry::scalar("loss", 0.5)]);
        assert!(writer.warned.load(Ordering::Relaxed) && writer.file.is_none());
        fs::remove_file(&run).unwrap();
        writer.add(2, vec![Entry::scalar("loss", 0.25)]);
        assert_eq!(events(&run).len(), 2);
    }

    /// A file that takes no byte, as on a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_full_disk_refuses_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::new(folder.path());
        writer.add(1, vec![Entry::scalar("loss", 0.5)]);
        let full = File::options().append(true).open("/dev/full").unwrap();
        let good = writer.file.replace(EventFile { file: full, length: 0, is_whole: true }).unwrap();
        writer.add(2, vec![Entry::scalar("loss", 0.4)]);
        assert!(
            writer.warned.load(Ordering::Relaxed) && writer.file.is_none(),
            "it cannot be cut, so it is given up"
        );
        writer.file = Some(good);
        writer.add(3, vec![Entry::scalar("loss", 0.3)]);
        assert_eq!(events(folder.path()).iter().map(|event| event.step).collect::<Vec<_>>(), [0, 1, 3]);
    }

    #[test]
    fn half_a_record_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), None).unwrap();
        let length = file.length;
        file.file.write_all(b"half").unwrap();
        // What `append` does when the rest of the record does not fit.
        file.file.set_len(file.length).unwrap();
        let mut frame = Vec::new();
        append(&mut frame, 5, What::Session(SessionLog::START), None);
        file.append(&frame).unwrap();
        assert_eq!(file.length, length + frame.len() as u64);
        assert_eq!(events(folder.path()).len(), 2);
    }

    #[test]
    fn events_that_will_come_again_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::new(folder.path());
        (1..=5).for_each(|step| writer.add(step, vec![Entry::scalar("loss", step as f64)]));
        let path = &event_files(folder.path())[0];
        let half = [fs::read(path).unwrap(), b"half".to_vec()].concat();
        fs::write(path, &half).unwrap();
        drop_from(folder.path(), 4);
        assert_eq!(events(folder.path()).iter().map(|event| event.step).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let length = fs::metadata(path).unwrap().len();
        drop_from(folder.path(), 4);
        assert_eq!(fs::metadata(path).unwrap().len(), length);
    }
}
